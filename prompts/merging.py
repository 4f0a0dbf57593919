"""Merge equal subjects into one group, in memory, in the order of their first appearance."""

from collections.abc import Iterable
from dataclasses import replace

from manifests.errors import CollisionError
from manifests.ids import canonical_text, group_id
from manifests.rows import SubjectRow
from prompts.errors import BadPromptError, ConflictingLabelError
from prompts.subject import Subject


def merge_subjects(subjects: Iterable[Subject]) -> list[SubjectRow]:
    """One row for each pair of kind and text: of the first such subject, counting the others.

    Example: captions "a  fox", "a door" and "a fox" give rows "a fox" with `num_merged` 2, and
    "a door" with `num_merged` 1.

    Raises:
        BadPromptError: A text is nothing but white space.
        ConflictingLabelError: One text has two labels.
        CollisionError: Two texts have one id. It was never seen: for n subjects the odds are
            n^2 / 2^64.
    """
    merged: dict[int, SubjectRow] = {}
    first_where: dict[int, str] = {}
    for subject in subjects:
        text = canonical_text(subject.text)
        if not text:
            raise BadPromptError(
                f"{subject.where}: nothing but white space, expected a text; fill or remove it"
            )
        group = group_id(subject.kind, text)
        known = merged.get(group)
        if known is None:
            first_where[group] = subject.where
            merged[group] = SubjectRow(
                group_index=len(merged),
                group_id=group,
                kind=subject.kind,
                text=text,
                label=subject.label.strip(),
                licence=subject.licence.strip(),
                source=subject.source.strip(),
                values=subject.values,
            )
            continue
        # Ids are hashes. A collision would make two subjects positives for each other in training.
        if (known.kind, known.text) != (subject.kind, text):
            raise CollisionError(
                f"{subject.where}: {text!r} and {known.text!r} ({first_where[group]}) share the id "
                f"{group}; change one of them"
            )
        if known.label != subject.label.strip():
            raise ConflictingLabelError(
                f"{subject.where}: label {subject.label!r} for {text!r}, but {first_where[group]} "
                f"says {known.label!r}; give one caption one label"
            )
        merged[group] = replace(known, num_merged=known.num_merged + 1)
    return list(merged.values())
