import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.errors import CorruptError
from manifests.rows import subjects_to_table, table_to_subjects
from manifests.schema import schema_of, subject_columns
from manifests.tables import TableFile, read_metadata, read_table, write_table, write_tables
from tests.sets import COLUMNS, refused, subject_rows

PLAN_SCHEMA = schema_of(subject_columns(COLUMNS))
ROWS = subject_rows("a red fox", "a blue door", "two pears")
TABLE = subjects_to_table(ROWS, COLUMNS)


def written(*tables: pa.Table) -> bytes:
    """A Parquet file with a row group for each table."""
    sink = io.BytesIO()
    write_tables(sink, tables, metadata={"made by": "a test"})
    return sink.getvalue()


DATA = written(TABLE.slice(0, 2), TABLE.slice(2))
WHERE = "subjects/000000.parquet"


def parquet(table: pa.Table) -> bytes:
    """A Parquet file as another program writes it."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_table_round_trip_with_its_metadata() -> None:
    table, metadata = read_table(DATA, PLAN_SCHEMA, where=WHERE)
    assert table_to_subjects(table, COLUMNS) == ROWS
    assert metadata == read_metadata(DATA, where=WHERE) == {"made by": "a test"}


def test_a_row_group_is_read_alone() -> None:
    file = TableFile.of_bytes(DATA, PLAN_SCHEMA, where=WHERE)
    tables = [file.read(range(group, group + 1)) for group in range(2)]
    assert [table_to_subjects(table, COLUMNS) for table in tables] == [ROWS[:2], ROWS[2:]]


def test_same_table_gives_the_same_bytes() -> None:
    copy = pa.Table.from_pylist(TABLE.to_pylist(), schema=PLAN_SCHEMA)
    assert written(copy.slice(0, 2), copy.slice(2)) == DATA
    parts = pa.concat_tables([copy.slice(0, 1), copy.slice(1, 1)])
    assert written(parts, copy.slice(2)) == DATA


def test_meaning_and_unit_of_columns_are_in_the_file() -> None:
    assert pq.read_schema(io.BytesIO(DATA)).field("num_merged").metadata[b"unit"] == b"rows"


def test_an_empty_table_can_be_written() -> None:
    empty = write_table(TABLE.slice(0, 0), metadata={})
    assert read_table(empty, PLAN_SCHEMA, where=WHERE)[0].num_rows == 0


def test_every_flipped_bit_of_a_text_is_caught_by_the_checksum_of_its_page() -> None:
    start = 8 * DATA.index(b"a red fox")
    for bit in range(start, start + 8 * len(b"a red fox")):
        broken = bytearray(DATA)
        broken[bit // 8] ^= 1 << bit % 8
        with refused(CorruptError, WHERE, "CRC checksum"):
            read_table(bytes(broken), PLAN_SCHEMA, where=WHERE)


@pytest.mark.parametrize("size", [0, 3, 100, len(DATA) // 2, len(DATA) - 1])
def test_a_cut_file_is_refused_in_one_line(size: int) -> None:
    with refused(CorruptError, WHERE, "not a readable Parquet file"):
        read_table(DATA[:size], PLAN_SCHEMA, where=WHERE)


@pytest.mark.parametrize(
    ("table", "part"),
    [
        (TABLE.drop_columns(["label"]), "no column label of type string"),
        (TABLE.set_column(0, "group_index", TABLE["label"]), "no column group_index of type int64"),
        (
            pa.table(
                {
                    **dict(zip(TABLE.column_names, TABLE.columns, strict=True)),
                    "label": pa.array([None, "a", "b"], pa.string()),
                }
            ),
            "holds null values",
        ),
    ],
)
def test_a_table_of_another_shape_is_refused(table: pa.Table, part: str) -> None:
    with refused(CorruptError, WHERE, part):
        read_table(parquet(table), PLAN_SCHEMA, where=WHERE)


def test_text_that_is_not_utf_8_is_refused() -> None:
    bad = pa.array([b"\xff", b"a", b"b"]).view(pa.string())
    table = TABLE.set_column(3, "text", bad)
    with refused(CorruptError, WHERE, "not a readable Parquet file"):
        read_table(parquet(table), PLAN_SCHEMA, where=WHERE)


def test_a_row_group_that_does_not_exist_is_refused() -> None:
    with refused(CorruptError, WHERE, "no row group 2", "restore it"):
        TableFile.of_bytes(DATA, PLAN_SCHEMA, where=WHERE).read(range(1, 3))


@pytest.mark.parametrize("limit", ["MAX_ROWS", "MAX_UNCOMPRESSED_BYTES"])
def test_a_file_that_would_fill_the_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"manifests.tables.{limit}", 2)
    with refused(CorruptError, WHERE, "3 rows", "too many"):
        read_table(DATA, PLAN_SCHEMA, where=WHERE)
