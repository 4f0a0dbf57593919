import json
from dataclasses import replace
from pathlib import Path

import pytest

from manifests.canonical import canonical_json
from manifests.errors import CorruptError
from manifests.rows import (
    ViewRow,
    parse_view_json,
    subjects_to_table,
    table_to_subjects,
    table_to_views,
    views_to_table,
)
from tests.sets import COLUMNS, begin, refused, subject_rows, views_of


@pytest.fixture
def row(tmp_path: Path) -> ViewRow:
    return views_of(begin(tmp_path), 0)[0].row


def test_row_round_trip_through_the_json_of_the_tar(row: ViewRow) -> None:
    placed = row.at(512, 99)
    assert parse_view_json(placed.to_json(), COLUMNS, where="a.tar") == row


def test_row_in_the_tar_does_not_say_where_its_image_is(row: ViewRow) -> None:
    values = json.loads(row.at(512, 99).to_json())
    assert not {"offset", "length"} & values.keys()
    assert values["sha256"] == row.sha256
    assert None not in values.values()


def test_keys_of_a_newer_minor_version_are_ignored(row: ViewRow) -> None:
    text = canonical_json(json.loads(row.to_json()) | {"aesthetic": 0.5})
    assert parse_view_json(text, COLUMNS, where="a.tar") == row


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "12", "expected int64"),
        ("seed", True, "expected int64"),
        ("seed", 2**63, "expected int64"),
        ("guidance_scale", 3, "expected double"),
        ("steps", 1.0, "expected int64"),
        ("text", None, "expected string"),
        ("avoid", None, "expected string"),
    ],
)
def test_a_value_of_another_type_is_refused(
    row: ViewRow, name: str, value: object, expected: str
) -> None:
    text = canonical_json(json.loads(row.to_json()) | {name: value})
    with refused(CorruptError, "a.tar", name, expected, "render the shard again"):
        parse_view_json(text, COLUMNS, where="a.tar")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"key":"a"}', '{"key": NaN}']
)
def test_a_text_that_is_no_row_is_refused(text: str) -> None:
    with refused(CorruptError, "a.tar", "render the shard again"):
        parse_view_json(text, COLUMNS, where="a.tar")


def test_json_that_is_not_canonical_is_refused(row: ViewRow) -> None:
    with refused(CorruptError, "a.tar", "not canonical", "render the shard again"):
        parse_view_json(row.to_json().replace(":", ": "), COLUMNS, where="a.tar")


def test_rows_round_trip_through_their_tables(row: ViewRow) -> None:
    views = [row.at(512, 99), replace(row, key="000000000_001", text="naïve 狐")]
    subjects = subject_rows("a red fox", "naïve 狐")
    assert table_to_views(views_to_table(views, COLUMNS), COLUMNS) == views
    assert table_to_subjects(subjects_to_table(subjects, COLUMNS), COLUMNS) == subjects


def test_columns_of_a_newer_minor_version_are_ignored(row: ViewRow) -> None:
    table = views_to_table([row], COLUMNS).append_column("aesthetic", [[0.5]])
    assert table_to_views(table, COLUMNS) == [row]
