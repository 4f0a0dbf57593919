"""The card of an exported model, whose YAML header tells hubs which library opens it."""

import json
from collections.abc import Sequence

from manifests.foundation.markup import as_text
from trainer.models.specs import EncoderSpec
from trainer.origin import Origin, SetFacts

MAX_LICENCES = 20
"""Most licences that a card lists; the others are counted."""


def model_card(
    origin: Origin, spec: EncoderSpec, *, library: str, task: str, usage: str, notes: Sequence[str]
) -> str:
    """Content of README.md. It depends on the arguments alone.

    Args:
        origin: Of the model.
        spec: Of its image tower.
        library: The hub's name of the library that opens the folder.
        task: The hub's name of what the model does.
        usage: Python code that opens it.
        notes: Sentences on what the format cannot say by itself.
    """
    rows = [
        ("tower", f"{spec.model} of timm"),
        *([("arguments of the tower", json.dumps(spec.args))] if spec.args else []),
        ("images", f"RGB, {spec.input_px} px square"),
        ("mean of red, green, blue", ", ".join(map(str, spec.mean))),
        ("standard deviation", ", ".join(map(str, spec.std))),
        ("part of the shorter side that evaluation cuts out", spec.crop_fraction),
        ("objective", origin.objective),
        ("steps", f"{origin.steps:,}"),
        ("learned from", origin.url),
        ("root of that set", origin.root_sha256),
        *_rows_of(origin.facts),
    ]
    table = "\n".join(f"| {name} | {as_text(value)} |" for name, value in rows)
    remarks = "".join(f"\n{note}\n" for note in notes)
    return f"""---
library_name: {library}
pipeline_tag: {task}
license: other
tags:
- {library}
- synthetic
- synth
---

# {spec.model}, learned from synthetic images

| what | value |
|---|---|
{table}

```python
{usage.strip()}
```
{remarks}
## Licences

{_licences(origin.facts)}
"""


def _rows_of(facts: SetFacts | None) -> list[tuple[str, object]]:
    if facts is None:
        return []
    return [
        ("subjects of the set", f"{facts.num_subjects:,}"),
        ("views of each subject", facts.views_per_subject),
        ("images of the set", f"{facts.num_images:,}"),
        ("renderer", facts.renderer),
        ("generator", facts.model or "none"),
        ("revision of the generator", facts.revision or "none"),
    ]


def _licences(facts: SetFacts | None) -> str:
    if facts is None:
        return (
            "The set was not read for this card, so it states neither generator nor licences: "
            "`synth export --learned-from SET` reads them from the set."
        )
    listed, others = facts.licences[:MAX_LICENCES], facts.licences[MAX_LICENCES:]
    rows = [f"| {as_text(name or 'not stated')} | {count:,} |" for name, count in listed]
    if others:
        count = sum(count for _, count in others)
        rows.append(f"| {len(others):,} other licences | {count:,} |")
    return "\n".join(
        [
            "Of the subjects, as the set states them:",
            "",
            "| licence | subjects |",
            "|---|---|",
            *rows,
            "",
            "The images also carry the terms of the generator that drew them. Whoever publishes "
            "this folder states the licence of the weights, in place of `other` in the header.",
        ]
    )
