"""Equal captions are one group: merge them, in memory, keeping the order of first appearance."""

from collections.abc import Iterable
from dataclasses import replace

from manifests.errors import CollisionError
from manifests.ids import canonical_text, group_id
from manifests.rows import PromptRow
from prompts.errors import BadPromptError, ConflictingLabelError
from prompts.prompt import Prompt


def merge_prompts(prompts: Iterable[Prompt]) -> list[PromptRow]:
    """One row a text; the first row wins and counts the others.

    Raises:
        BadPromptError: Nothing is left of a caption.
        ConflictingLabelError: One text with two labels.
        CollisionError: Two texts with one id (never seen; the odds are n^2 / 2^64).
    """
    merged: dict[int, PromptRow] = {}
    first: dict[int, str] = {}
    for prompt in prompts:
        text = canonical_text(prompt.caption)
        if not text:
            raise BadPromptError(f"{prompt.where}: nothing but white space")
        group = group_id("caption", text)
        known = merged.get(group)
        if known is None:
            first[group] = prompt.where
            merged[group] = PromptRow(
                group_index=len(merged),
                group_id=group,
                prompt=text,
                negative_prompt=canonical_text(prompt.negative_prompt),
                label=prompt.label.strip(),
                licence=prompt.licence.strip(),
                source=prompt.source.strip(),
            )
            continue
        if known.prompt != text:
            raise CollisionError(
                f"{prompt.where}: {text!r} and {known.prompt!r} ({first[group]}) share the id "
                f"{group}; change one of them"
            )
        if known.label != prompt.label.strip():
            raise ConflictingLabelError(
                f"{prompt.where}: label {prompt.label!r} for {text!r}, but {first[group]} says "
                f"{known.label!r}; give one caption one label"
            )
        merged[group] = replace(known, num_merged=known.num_merged + 1)
    return list(merged.values())
