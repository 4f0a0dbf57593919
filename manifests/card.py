"""The data-set card, whose YAML header tells hubs and `datasets` to read the tars alone."""

import json
from collections.abc import Callable

from manifests.about import About
from manifests.foundation.markup import as_text
from manifests.foundation.messages import printable, shortened
from manifests.origin import Origin
from manifests.recipe import Identity, Recipe
from manifests.seal import Seal

MAX_LISTED = 20
"""Most licences that a card lists; the others are counted."""

_SIZE_CATEGORIES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)

_TASKS = {"caption": "text-to-image"}
"""The hub's name of a task that subjects of some kind serve."""

_LOADING = """
## Load it

FOLDER is where the set lies; on the Hub it is `hf://datasets/OWNER/NAME`.

```python
from datasets import load_dataset

views = load_dataset("webdataset", data_files="FOLDER/data/*.tar", split="train", streaming=True)
rows = load_dataset("parquet", data_files="FOLDER/manifests/*.parquet", split="train")
```

The first gives images with their rows and texts; the second the rows alone, also of views that
failed. `croissant.json` describes them for search engines.
"""


def size_category(num_images: int) -> str:
    """The hub's name for a count. Example: size_category(864) == "n<1K"."""
    for limit, name in _SIZE_CATEGORIES:
        if num_images < limit:
            return name
    return "n>100M"


def set_name(identity: Identity, about: About) -> str:
    """What people call the set. Example: "249 captions x 6 views by embedded"."""
    kinds = [f"{count:,} {kind}{'' if count == 1 else 's'}" for kind, count in about.kinds.items()]
    return f"{', '.join(kinds)} x {identity.views_per_subject} views by {_maker(identity)}"


def _maker(identity: Identity) -> str:
    return identity.model or identity.renderer


def dataset_card(recipe: Recipe, seal: Seal) -> str:
    """Content of README.md. It depends on the recipe's identity and origin and the seal alone.

    A set whose seal does not say what it is about, as before version 2.4, has the card of then.
    """
    identity, about = recipe.identity, seal.about
    if about is None:
        return f"---\n{_header(seal)}---\n\n# A synthetic image set\n\n{_facts(recipe, seal)}"
    tasks = ["image-feature-extraction", *(_TASKS[kind] for kind in about.kinds if kind in _TASKS)]
    tasks += [] if about.labels == "none" else ["image-classification"]
    name = set_name(identity, about)
    header = [
        f"pretty_name: {json.dumps(printable(shortened(name)), ensure_ascii=False)}",
        "license: other",
        "task_categories:",
        *(f"- {task}" for task in tasks),
    ]
    return "\n".join(
        [
            "---",
            *header,
            f"{_header(seal)}---",
            "",
            f"# {as_text(name)}",
            "",
            *_pictures(identity, about),
            _facts(recipe, seal),
            _LOADING.strip(),
            "",
            "## Licences",
            "",
            "Of the subjects, as their rows state them:",
            "",
            "| licence | subjects |",
            "|---|---|",
            *_licences(about),
            "",
            "Whoever publishes the set states the licence of its images, which is that of the "
            f"output of {as_text(_maker(identity))}, in place of `other` in the header of the copy "
            "that is published: `synth verify` calls a card that was changed a problem.",
            "",
        ]
    )


def _header(seal: Seal) -> str:
    return f"""configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.tar
size_categories:
- {size_category(seal.counts["num_ok"])}
tags:
- synthetic
- webdataset
- synth
"""


def _facts(recipe: Recipe, seal: Seal) -> str:
    identity = recipe.identity
    # Cards of sets from before version 2.4 were written without this.
    shown = str if seal.about is None else as_text
    counts = seal.counts
    # Each value once, in the order of the recipe; a dict keeps the order, a set would not.
    varied = {
        name: list(dict.fromkeys(v[name] for v in identity.variations))
        for name in identity.variations[0]
    }
    rows = [f"| {name} | {shown(', '.join(map(str, values)))} |" for name, values in varied.items()]
    rows += [
        f"| {name} | {shown(value)} |" for name, value in identity.constants.items() if value != ""
    ]
    rows += [] if recipe.origin is None else [_origin_row(recipe.origin, shown)]
    details = "\n".join(rows) or "| variations | none |"
    return f"""| what | value |
|---|---|
| subjects | {identity.num_subjects:,} |
| views of each subject | {identity.views_per_subject} |
{details}
| images | {counts["num_ok"]:,} in {counts["num_shards"]:,} tars, {counts["tar_bytes"]:,} bytes |
| views that failed | {counts["num_failed"]:,} |
| missing shards | {len(seal.missing)} |
| renderer | {shown(identity.renderer)} |
| model | {shown(identity.model)} |
| recipe | `{seal.recipe_sha256}` |
| root | `{seal.root_sha256}` |

Each group of adjacent images depicts one subject; `group_id` in the JSON member says which. The
columns of `manifests/*.parquet` and the rules that hold are those of format version 2 of
`synth-rep`; what this renderer varied and kept constant is declared under `columns` in
`recipe.json`. Licence and source of each subject are in its rows; the licence of the images is
that of the generator's output.
"""


def _pictures(identity: Identity, about: About) -> list[str]:
    """Views of the first subject side by side, and its text below them."""
    if not about.examples:
        return []
    files = [f"![](examples/{example.key}.{identity.format})" for example in about.examples]
    return [*files, "", f"Views of: {as_text(about.examples[0].text)}", ""]


def _licences(about: About) -> list[str]:
    listed, others = about.licences[:MAX_LISTED], about.licences[MAX_LISTED:]
    rows = [f"| {as_text(name or 'not stated')} | {count:,} |" for name, count in listed]
    num_others = about.num_other_licences + sum(count for _, count in others)
    return [*rows, *([f"| others | {num_others:,} |"] if num_others else [])]


_VERBS = {"grow": "grown", "merge": "merged", "split": "split"}


def _origin_row(origin: Origin, shown: Callable[[object], str]) -> str:
    """The sets that views were taken from, by their roots."""
    roots = ", ".join(f"`{shown(one.root_sha256)}`" for one in origin.sets)
    part = origin.part
    if part is not None:
        roots += f", part {shown(part.name)}: {part.start:g} to {part.stop:g} with seed {part.seed}"
    return f"| {_VERBS.get(origin.verb, 'taken')} from | {roots} |"
