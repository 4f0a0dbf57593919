"""How facts of a set are said to people."""

from collections.abc import Mapping

from manifests.columns import Value
from manifests.rows import SubjectRow, ViewRow


def variation_name(variation: Mapping[str, Value]) -> str:
    """A variation as a heading.

    Examples: "guidance scale 2"; "every view" for a set whose views differ in their seeds alone.
    """
    parts = [
        f"{name.replace('_', ' ')} {value:g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in variation.items()
    ]
    return ", ".join(parts) or "every view"


def title_of(row: SubjectRow | ViewRow) -> str:
    """The text of a caption; the label of what nobody would read, such as a program."""
    return row.text if row.kind == "caption" else row.label or row.text
