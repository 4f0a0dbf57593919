"""Typed columns with a meaning and a unit, and how a renderer declares columns of its own.

A set is subjects times variations. What varies between the views of a subject differs from one
kind of generator to the next, so the renderer declares it, and the declaration is part of the
recipe: `guidance_scale` for text-to-image, an angle for a latent, a time for an image program.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import pyarrow as pa

from manifests.errors import ContractError

Value = str | int | float | bool
"""A value of a column. It is never null."""

Type = Literal["string", "int64", "double", "bool"]

Scope = Literal["set", "subject", "variation", "view"]
"""What a declared column belongs to, which says where its values are written down.

"set" : one value for all views, kept in the recipe. Example: the class of the scheduler.
"subject" : one value for each subject, kept in the plan. Example: a caption's own negative prompt.
"variation" : one value for each variation, kept in the recipe. Example: a guidance scale.
"view" : known only when the view is rendered, kept in the manifest. Example: how many tokens of
    the caption were cut.
"""

SCOPES: tuple[Scope, ...] = get_args(Scope)
MAX_DECLARED_COLUMNS = 100

_ARROW: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
}
_PYTHON: Mapping[str, type] = {"string": str, "int64": int, "double": float, "bool": bool}
_ZERO: Mapping[str, Value] = {"string": "", "int64": 0, "double": 0.0, "bool": False}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a Parquet file and a key of a view's JSON."""

    name: str
    type: Type
    meaning: str
    unit: str = ""
    """Empty for a count, a text or a ratio."""

    def field(self) -> pa.Field:
        """The Arrow field, with meaning and unit as its metadata."""
        return pa.field(
            self.name,
            _ARROW[self.type],
            nullable=False,
            metadata={"meaning": self.meaning, "unit": self.unit},
        )

    def zero(self) -> Value:
        """The value where there is none, because columns hold no nulls: "", 0, 0.0 or False."""
        return _ZERO[self.type]

    def holds(self, value: Any) -> bool:
        """Whether a value has exactly this column's type and can be stored.

        Example: Column("steps", "int64", "denoising steps").holds(True) is False.
        """
        # Not isinstance: to Python a bool is also an int, and the two differ in Parquet.
        if type(value) is not _PYTHON[self.type]:
            return False
        if isinstance(value, float):
            return math.isfinite(value)
        return not isinstance(value, int) or -(2**63) <= value < 2**63


@dataclass(frozen=True, slots=True)
class DeclaredColumn(Column):
    """A column that a renderer declares for the rows of its sets."""

    scope: Scope = "set"

    def to_json(self) -> dict[str, str]:
        """The declaration as the recipe stores it."""
        return asdict(self)


def parse_columns(document: Any, taken: Iterable[str]) -> tuple[DeclaredColumn, ...]:
    """The declared columns of a recipe.

    Args:
        document: A list of objects with the keys of `DeclaredColumn`.
        taken: Names that the format itself uses.

    Raises:
        ContractError: A name is taken or comes twice, or a type or scope is unknown.
    """
    if not isinstance(document, list | tuple) or len(document) > MAX_DECLARED_COLUMNS:
        raise ContractError(f"columns: expected a list of at most {MAX_DECLARED_COLUMNS}")
    columns = []
    for entry in document:
        texts = entry if isinstance(entry, Mapping) else {}
        known = {key: texts.get(key) for key in ("name", "type", "meaning", "unit", "scope")}
        if not all(isinstance(text, str) for text in known.values()):
            raise ContractError(f"columns: {entry!r:.200} does not describe a column")
        columns.append(DeclaredColumn(**cast(Any, known)))
    require_columns(columns, taken)
    return tuple(columns)


def require_columns(columns: Sequence[DeclaredColumn], taken: Iterable[str]) -> None:
    """Refuse a declaration that cannot become columns of a table. Raises ContractError."""
    names = {*taken}
    for column in columns:
        if not _NAME.fullmatch(column.name) or column.name in names:
            raise ContractError(
                f"column {column.name!r}: the name comes twice, is used by the format itself, or "
                "is not of the form a_name_1"
            )
        if column.type not in _ARROW or column.scope not in SCOPES:
            raise ContractError(
                f"column {column.name}: type {column.type!r} with scope {column.scope!r}, expected "
                f"one of {', '.join(_ARROW)} with one of {', '.join(SCOPES)}"
            )
        names.add(column.name)


def of_scope(columns: Iterable[DeclaredColumn], scope: Scope) -> tuple[DeclaredColumn, ...]:
    """The columns of one scope, in the order of their declaration."""
    return tuple(column for column in columns if column.scope == scope)


def require_values(
    values: Mapping[str, Any], columns: Sequence[Column], *, what: str
) -> dict[str, Value]:
    """Check that there is one value of the right type for each column, and no other value.

    Args:
        values: Value by name of its column.
        what: What the values describe, for messages; such as `variation`.

    Returns:
        The same values, in the order of the columns.

    Raises:
        ContractError: A value is missing, is not of its column's type, or has no column.
    """
    if unknown := sorted({*values} - {column.name for column in columns}):
        raise ContractError(f"{what}: {unknown[0]} is no declared column of it")
    for column in columns:
        if column.name not in values or not column.holds(values[column.name]):
            raise ContractError(
                f"{what}: {column.name} is {values.get(column.name)!r:.100}, expected a value of "
                f"type {column.type}"
            )
    return {column.name: values[column.name] for column in columns}
