"""The rows of prompt files and manifests as values, and their forms in JSON and Arrow."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pyarrow as pa

from manifests.canonical import canonical_json
from manifests.errors import CorruptError
from manifests.schema import MANIFEST_SCHEMA, NO_HASH, NO_OFFSET, PROMPT_SCHEMA, Reason, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """A group to depict, in the plan. Columns: `schema.PROMPT_COLUMNS`."""

    group_index: int
    group_id: int
    prompt: str
    negative_prompt: str = ""
    label: str = ""
    licence: str = ""
    source: str = ""
    num_merged: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRow:
    """A requested view and what became of it. Columns: `schema.MANIFEST_COLUMNS`."""

    key: str
    group_id: int
    view_index: int
    status: Status
    reason: Reason
    prompt: str
    negative_prompt: str
    label: str
    licence: str
    source: str
    renderer: str
    model: str
    revision: str
    scheduler: str
    steps: int
    guidance_scale: float
    seed: int
    render_width_px: int
    render_height_px: int
    width_px: int
    height_px: int
    format: str
    num_tokens_cut: int
    renderer_params: str
    sha256: bytes = NO_HASH
    offset: int = NO_OFFSET
    length: int = 0

    @property
    def is_ok(self) -> bool:
        """Whether the view's image is in the tar."""
        return self.status == "ok"

    def at(self, offset: int, length: int) -> "ViewRow":
        """The same row with the place of its image in the tar."""
        return replace(self, offset=offset, length=length)

    def to_json(self) -> str:
        """The row as the tar carries it: without its own place there, hashes in hexadecimal."""
        values = asdict(self)
        del values["offset"], values["length"]
        values["sha256"] = self.sha256.hex()
        return canonical_json(values)


_JSON_TYPES: dict[str, type] = {
    field.name: field.type if field.type in (int, float) else str  # hashes, statuses: text in JSON
    for field in fields(ViewRow)
    if field.name not in ("offset", "length")
}


def parse_view_json(text: str, *, where: str) -> ViewRow:
    """A row from a tar; keys of a newer minor version are ignored.

    Raises:
        CorruptError: Not canonical JSON, a key is missing, or a value has another type.
    """
    try:
        values = json.loads(text)
        is_canonical = canonical_json(values) == text
    except ValueError as exc:
        raise CorruptError(f"{where}: not JSON ({exc}); render the shard again") from exc
    if not is_canonical:
        raise CorruptError(f"{where}: not canonical JSON; render the shard again")
    known: dict[str, Any] = {}
    for name, expected in _JSON_TYPES.items():
        value = values.get(name) if isinstance(values, dict) else None
        if type(value) is not expected or (expected is int and not _fits_int64(value)):
            raise CorruptError(
                f"{where}: {name} is {value!r}, expected {expected.__name__}; "
                "render the shard again"
            )
        known[name] = value
    try:
        known["sha256"] = bytes.fromhex(known["sha256"])
    except ValueError as exc:
        raise CorruptError(f"{where}: sha256 is not hexadecimal; render the shard again") from exc
    return ViewRow(**known)


def _fits_int64(value: Any) -> bool:
    return bool(-(2**63) <= value < 2**63)


def views_to_table(rows: Sequence[ViewRow]) -> pa.Table:
    """Rows to a table with the manifest's schema."""
    return _to_table(rows, MANIFEST_SCHEMA)


def table_to_views(table: pa.Table) -> list[ViewRow]:
    """Rows of a manifest; columns of a newer minor version are ignored."""
    return [ViewRow(**row) for row in _to_dicts(table, MANIFEST_SCHEMA)]


def prompts_to_table(rows: Sequence[PromptRow]) -> pa.Table:
    """Rows to a table with the plan's schema."""
    return _to_table(rows, PROMPT_SCHEMA)


def table_to_prompts(table: pa.Table) -> list[PromptRow]:
    """Rows of the plan; columns of a newer minor version are ignored."""
    return [PromptRow(**row) for row in _to_dicts(table, PROMPT_SCHEMA)]


def _to_table(rows: Sequence[ViewRow] | Sequence[PromptRow], schema: pa.Schema) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    return pa.table(columns, schema=schema)


def _to_dicts(table: pa.Table, schema: pa.Schema) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.select(schema.names).to_pylist()
    return found
