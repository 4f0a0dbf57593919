from dataclasses import fields
from typing import get_args

import pyarrow as pa

from manifests.rows import PromptRow, ViewRow
from manifests.schema import (
    FORMAT_VERSION,
    MANIFEST_COLUMNS,
    MANIFEST_SCHEMA,
    PROMPT_SCHEMA,
    REASONS,
    STATUSES,
    Reason,
    Status,
)


def test_columns_of_version_1_never_change() -> None:
    assert FORMAT_VERSION == "1.0"
    assert [(field.name, str(field.type)) for field in MANIFEST_SCHEMA] == [
        ("key", "string"),
        ("group_id", "int64"),
        ("view_index", "int64"),
        ("status", "string"),
        ("reason", "string"),
        ("prompt", "string"),
        ("negative_prompt", "string"),
        ("label", "string"),
        ("licence", "string"),
        ("source", "string"),
        ("renderer", "string"),
        ("model", "string"),
        ("revision", "string"),
        ("scheduler", "string"),
        ("steps", "int64"),
        ("guidance_scale", "double"),
        ("seed", "int64"),
        ("render_width_px", "int64"),
        ("render_height_px", "int64"),
        ("width_px", "int64"),
        ("height_px", "int64"),
        ("format", "string"),
        ("num_tokens_cut", "int64"),
        ("renderer_params", "string"),
        ("sha256", "fixed_size_binary[32]"),
        ("offset", "int64"),
        ("length", "int64"),
    ]
    assert [(field.name, str(field.type)) for field in PROMPT_SCHEMA] == [
        ("group_index", "int64"),
        ("group_id", "int64"),
        ("prompt", "string"),
        ("negative_prompt", "string"),
        ("label", "string"),
        ("licence", "string"),
        ("source", "string"),
        ("num_merged", "int64"),
    ]


def test_rows_have_the_columns_of_their_tables() -> None:
    assert [field.name for field in fields(ViewRow)] == MANIFEST_SCHEMA.names
    assert [field.name for field in fields(PromptRow)] == PROMPT_SCHEMA.names


def test_every_column_is_explained_and_never_null() -> None:
    for schema in (MANIFEST_SCHEMA, PROMPT_SCHEMA):
        assert not any(field.nullable for field in schema)
        assert all(field.metadata[b"meaning"] for field in schema)


def test_sizes_and_offsets_have_units() -> None:
    units = {column.name: column.unit for column in MANIFEST_COLUMNS if column.unit}
    assert {name: unit for name, unit in units.items() if name.endswith("_px")} == {
        f"{prefix}{name}": "px" for prefix in ("", "render_") for name in ("width_px", "height_px")
    }
    assert units["offset"] == units["length"] == "bytes"
    assert MANIFEST_SCHEMA.field("sha256").type == pa.binary(32)


def test_closed_lists_are_those_of_the_types() -> None:
    assert get_args(Status) == STATUSES == ("ok", "failed")
    assert get_args(Reason) == REASONS == ("", "non-finite", "blank", "render-error")
