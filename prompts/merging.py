"""Merge equal subjects into one group, in memory, in the order of their first appearance."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from manifests.columns import DeclaredColumn, require_values
from manifests.errors import CollisionError, ContractError
from manifests.ids import canonical_text, group_id
from manifests.rows import SubjectRow
from prompts.errors import BadPromptError, ConflictingLabelError
from prompts.rows import MAX_ROW_CHARS
from prompts.subject import Subject

_TEXTS = ("text", "kind", "label", "licence", "source")


def merge_subjects(
    subjects: Iterable[Subject], columns: Sequence[DeclaredColumn] = ()
) -> list[SubjectRow]:
    """One row for each pair of kind and text: of the first such subject, counting the others.

    Example: captions "a  fox", "a door" and "a fox" give rows "a fox" with `num_merged` 2, and
    "a door" with `num_merged` 1.

    Args:
        columns: The declared columns of scope `subject`, which each subject has a value for.

    Raises:
        BadPromptError: A text is nothing but white space, or a subject is not what a set can hold.
        ConflictingLabelError: One text has two labels.
        CollisionError: Two texts have one id. It was never seen: for n subjects the odds are
            n^2 / 2^64.
    """
    merged: dict[int, SubjectRow] = {}
    first_where: dict[int, str] = {}
    for number, subject in enumerate(subjects, start=1):
        _require_storable(subject, number, columns)
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


def _require_storable(subject: Subject, number: int, columns: Sequence[DeclaredColumn]) -> None:
    """Refuse what a prompt source of somebody else may give and no set can hold."""
    if not isinstance(subject, Subject):
        raise BadPromptError(f"subject {number} is {subject!r:.100}, expected a prompts.Subject")
    where = subject.where or f"subject {number}"
    for name in _TEXTS:
        text = getattr(subject, name)
        if not isinstance(text, str) or len(text) > MAX_ROW_CHARS or not _is_unicode(text):
            raise BadPromptError(
                f"{where}: {name} is {text!r:.100}, expected a text without zero bytes and halves "
                f"of characters, of at most {MAX_ROW_CHARS:,} characters"
            )
    try:
        require_values(subject.values, columns, what=where)
    except ContractError as exc:
        raise BadPromptError(str(exc)) from exc


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text  # one would end the kind in the text that ids are hashed from
