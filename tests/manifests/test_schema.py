from dataclasses import fields
from typing import get_args

from manifests.rows import SubjectRow, ViewRow
from manifests.schema import (
    CORE_COLUMNS,
    CORE_SCHEMA,
    FORMAT_VERSION,
    STATUSES,
    SUBJECT_COLUMNS,
    Status,
    manifest_columns,
    schema_of,
    subject_columns,
)
from tests.sets import COLUMNS

CORE = [
    ("key", "string"),
    ("group_id", "int64"),
    ("view_index", "int64"),
    ("status", "string"),
    ("reason", "string"),
    ("kind", "string"),
    ("text", "string"),
    ("label", "string"),
    ("licence", "string"),
    ("source", "string"),
    ("renderer", "string"),
    ("model", "string"),
    ("revision", "string"),
    ("seed", "int64"),
    ("render_width_px", "int64"),
    ("render_height_px", "int64"),
    ("width_px", "int64"),
    ("height_px", "int64"),
    ("format", "string"),
    ("sha256", "string"),
    ("offset", "int64"),
    ("length", "int64"),
]
PLAN = [
    ("group_index", "int64"),
    ("group_id", "int64"),
    ("kind", "string"),
    ("text", "string"),
    ("label", "string"),
    ("licence", "string"),
    ("source", "string"),
    ("num_merged", "int64"),
]


def test_columns_of_version_2_never_change() -> None:
    assert FORMAT_VERSION == "2.0"
    assert [(field.name, str(field.type)) for field in CORE_SCHEMA] == CORE
    assert [(column.name, column.type) for column in SUBJECT_COLUMNS] == PLAN


def test_declared_columns_follow_those_of_every_set() -> None:
    manifest = schema_of(manifest_columns(COLUMNS))
    assert [(field.name, str(field.type)) for field in manifest] == [
        *CORE,
        ("steps", "int64"),
        ("avoid", "string"),
        ("guidance_scale", "double"),
        ("num_cut", "int64"),
    ]
    plan = schema_of(subject_columns(COLUMNS))
    assert [(field.name, str(field.type)) for field in plan] == [*PLAN, ("avoid", "string")]


def test_rows_have_the_columns_of_their_tables() -> None:
    assert [field.name for field in fields(ViewRow)] == [*CORE_SCHEMA.names, "values"]
    names = [column.name for column in SUBJECT_COLUMNS]
    assert [field.name for field in fields(SubjectRow)] == [*names, "values"]


def test_every_column_is_explained_and_never_null() -> None:
    for schema in (CORE_SCHEMA, schema_of(SUBJECT_COLUMNS), schema_of(manifest_columns(COLUMNS))):
        assert not any(field.nullable for field in schema)
        assert all(field.metadata[b"meaning"] for field in schema)


def test_sizes_and_offsets_have_units() -> None:
    units = {column.name: column.unit for column in CORE_COLUMNS if column.unit}
    assert units == {
        f"{prefix}{name}": "px" for prefix in ("", "render_") for name in ("width_px", "height_px")
    } | {"offset": "bytes", "length": "bytes"}


def test_no_word_of_diffusion_is_in_the_format() -> None:
    words = " ".join(f"{column.name} {column.meaning}" for column in CORE_COLUMNS)
    for word in ("guidance", "scheduler", "steps", "noise", "negative", "token", "prompt"):
        assert word not in words


def test_the_list_of_statuses_is_that_of_their_type() -> None:
    assert get_args(Status) == STATUSES == ("ok", "failed")
