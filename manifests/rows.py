"""Rows of the plan and of manifests as Python values, and their conversion to JSON and Arrow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from manifests.canonical import canonical_json
from manifests.columns import Column, DeclaredColumn, Value
from manifests.errors import CorruptError
from manifests.schema import (
    CORE_COLUMNS,
    NO_OFFSET,
    SUBJECT_COLUMNS,
    Status,
    manifest_columns,
    schema_of,
    subject_columns,
)

_POSITION = ("offset", "length")
"""Where the image lies in the tar. Manifests have these columns; a row inside the tar has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRow:
    """What a group depicts, in the plan. Columns: `schema.SUBJECT_COLUMNS`."""

    group_index: int
    group_id: int
    kind: str
    text: str
    label: str = ""
    licence: str = ""
    source: str = ""
    num_merged: int = 1
    values: Mapping[str, Value] = field(default_factory=dict)
    """Values of the declared columns of scope `subject`."""

    def get(self, column: str) -> Value:
        """The value of a core or declared column."""
        value: Value = getattr(self, column) if column in _SUBJECT_NAMES else self.values[column]
        return value


_SUBJECT_NAMES = frozenset(column.name for column in SUBJECT_COLUMNS)
_CORE_NAMES = frozenset(column.name for column in CORE_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRow:
    """A requested view and what became of it. Columns: `schema.CORE_COLUMNS`."""

    key: str
    group_id: int
    view_index: int
    status: Status
    reason: str
    kind: str
    text: str
    label: str
    licence: str
    source: str
    renderer: str
    model: str
    revision: str
    seed: int
    render_width_px: int
    render_height_px: int
    width_px: int
    height_px: int
    format: str
    sha256: str = ""
    offset: int = NO_OFFSET
    length: int = 0
    values: Mapping[str, Value] = field(default_factory=dict)
    """Values of the declared columns, of every scope."""

    @property
    def is_ok(self) -> bool:
        """Whether the view's image is in the tar."""
        return self.status == "ok"

    def get(self, column: str) -> Value:
        """The value of a core or declared column."""
        value: Value = getattr(self, column) if column in _CORE_NAMES else self.values[column]
        return value

    def at(self, offset: int, length: int) -> "ViewRow":
        """The same row with the position of its image in the tar, both numbers in bytes."""
        return replace(self, offset=offset, length=length)

    def to_json(self) -> str:
        """The row as the tar stores it: all columns but `offset` and `length`, in canonical JSON.

        Example: `{"format":"png","group_id":8945900202904087436,...,"width_px":8}`.
        """
        core = {name: getattr(self, name) for name in _CORE_NAMES if name not in _POSITION}
        return canonical_json(core | dict(self.values))


def parse_view_json(text: str, columns: Sequence[DeclaredColumn], *, where: str) -> ViewRow:
    """Read a row from a tar; `offset` and `length` keep their defaults.

    Keys that are not declared may come from a newer minor version and are ignored.

    Args:
        columns: What the renderer of the set declares.

    Raises:
        CorruptError: Not canonical JSON, a key is missing, or a value has another type.
    """
    # Another spelling of the same values is refused, so that no changed byte of a tar is accepted.
    try:
        document = json.loads(text)
        is_canonical = canonical_json(document) == text
    except (ValueError, RecursionError) as exc:
        raise CorruptError(f"{where}: not JSON ({exc}); render the shard again") from exc
    if not is_canonical:
        raise CorruptError(f"{where}: not canonical JSON; render the shard again")
    if not isinstance(document, dict):
        raise CorruptError(f"{where}: not a JSON object; render the shard again")
    known = {}
    for column in manifest_columns(columns):
        if column.name in _POSITION:
            continue
        value = document.get(column.name)
        if not column.holds(value):
            raise CorruptError(
                f"{where}: {column.name} is {value!r:.100}, expected {column.type}; render the "
                "shard again"
            )
        known[column.name] = value
    return _view(known)


def _view(values: Mapping[str, Any]) -> ViewRow:
    core = {name: value for name, value in values.items() if name in _CORE_NAMES}
    declared = {name: value for name, value in values.items() if name not in _CORE_NAMES}
    return ViewRow(**core, values=declared)


def views_to_table(rows: Sequence[ViewRow], columns: Sequence[DeclaredColumn]) -> pa.Table:
    """Rows to a table: the core columns, then the declared ones."""
    return _to_table(rows, manifest_columns(columns))


def table_to_views(table: pa.Table, columns: Sequence[DeclaredColumn]) -> list[ViewRow]:
    """Rows of a manifest; columns that nothing declares are ignored."""
    names = [column.name for column in manifest_columns(columns)]
    return [_view(values) for values in table.select(names).to_pylist()]


def subjects_to_table(rows: Sequence[SubjectRow], columns: Sequence[DeclaredColumn]) -> pa.Table:
    """Rows to a table with the columns of the plan."""
    return _to_table(rows, subject_columns(columns))


def table_to_subjects(table: pa.Table, columns: Sequence[DeclaredColumn]) -> list[SubjectRow]:
    """Rows of the plan; columns that nothing declares are ignored."""
    # Column by column, which takes half of the time of row by row.
    cells = {column.name: table[column.name].to_pylist() for column in subject_columns(columns)}
    core = [name for name in cells if name in _SUBJECT_NAMES]
    declared = [name for name in cells if name not in _SUBJECT_NAMES]
    return [
        SubjectRow(
            **dict(zip(core, row, strict=False)),  # the declared columns come last
            values=dict(zip(declared, row[len(core) :], strict=True)),
        )
        for row in zip(*cells.values(), strict=True)
    ]


def _to_table(
    rows: Sequence[ViewRow] | Sequence[SubjectRow], columns: Sequence[Column]
) -> pa.Table:
    arrays = {column.name: [row.get(column.name) for row in rows] for column in columns}
    return pa.table(arrays, schema=schema_of(columns))
