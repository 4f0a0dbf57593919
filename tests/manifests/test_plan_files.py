import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from manifests.columns import DeclaredColumn
from manifests.errors import CorruptError, VersionError
from manifests.ids import group_id
from manifests.rows import SubjectRow, subjects_to_table
from manifests.schema import schema_of, subject_columns
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.storage.local import LocalStore
from manifests.tables import TableFile, write_tables
from tests.sets import COLUMNS, Listed, begin, identity_of, refused, subject_rows

PLAN = "subjects/000000.parquet"


class Counting(LocalStore):
    """Notes what is read of the plan: offset and length of parts, and whole files."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.parts: list[tuple[int, int]] = []
        self.whole: list[str] = []

    def read(self, path: str, **options: Any) -> bytes:
        self.whole.append(path)
        return super().read(path, **options)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        self.parts.append((offset, length))
        return super().read_range(path, offset, length)

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        self.whole.append(path)
        with super().open(path) as file:
            yield file


def captions(count: int) -> list[str]:
    return [f"{number * 7919 % 100_003} foxes beside door {number}" for number in range(count)]


def test_a_worker_reads_the_footer_once_and_one_row_group_for_each_shard(tmp_path: Path) -> None:
    """A set of 1,000 shards of 50 subjects, whose plan is one file."""
    texts = captions(50_000)
    begin(tmp_path, texts, subjects_per_shard=50)
    size = (tmp_path / PLAN).stat().st_size
    footer = int.from_bytes((tmp_path / PLAN).read_bytes()[-8:-4], "little") + 8
    store = Counting(str(tmp_path))
    shards = ShardSet(store)
    for shard in (3, 4, 999, 0):
        assert [row.text for row in shards.subjects(shard)] == texts[50 * shard : 50 * shard + 50]
    assert store.whole == ["recipe.json"]
    *tail, third, fourth, last, first = store.parts
    assert sum(length for _, length in tail) < footer + (256 << 10)
    assert third[0] + third[1] == fourth[0]
    assert first[0] == 4
    assert last[0] + last[1] <= size - footer
    group_bytes = (size - footer) / 1000
    assert all(length < 2 * group_bytes for _, length in (third, fourth, last, first))


def test_who_reads_the_whole_plan_reads_each_file_once(tmp_path: Path) -> None:
    texts = captions(1001)
    begin(tmp_path, texts, subjects_per_shard=1)
    store = Counting(str(tmp_path))
    shards = ShardSet(store)
    assert [row.text for row in shards.all_subjects()] == texts
    assert store.whole == ["recipe.json", PLAN, "subjects/000001.parquet"]
    assert store.parts == []


def test_a_file_is_read_in_parts_of_whole_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    table = subjects_to_table(subject_rows(*captions(20)), COLUMNS)
    sink = io.BytesIO()
    write_tables(sink, [table.slice(start, 4) for start in range(0, 20, 4)])
    schema = schema_of(subject_columns(COLUMNS))
    file = TableFile.of_bytes(sink.getvalue(), schema, where=PLAN)
    footer = pq.ParquetFile(io.BytesIO(sink.getvalue())).metadata
    group_bytes = max(footer.row_group(number).total_byte_size for number in range(5))
    for limit, expected in ((1, [4] * 5), (2.5 * group_bytes, [8, 8, 4]), (1 << 20, [20])):
        monkeypatch.setattr("manifests.tables.PART_BYTES", limit)
        assert [part.num_rows for part in file.parts()] == expected
        assert [row for part in file.parts() for row in part.to_pylist()] == table.to_pylist()


SUBJECT_COLUMNS = (
    DeclaredColumn("avoid", "string", "what not to paint", scope="subject"),
    DeclaredColumn("weight", "double", "a number", scope="subject"),
    DeclaredColumn("is_old", "bool", "a truth", scope="subject"),
    DeclaredColumn("year", "int64", "another number", scope="subject"),
)


def test_a_flipped_bit_of_a_part_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Of each byte of a row group and of the footer, with columns of every type."""
    rows = [
        SubjectRow(
            group_index=index,
            group_id=group_id("caption", text),
            kind="caption",
            text=text,
            label=("fox", "door", "")[index % 3],
            licence=("CC0-1.0", "MIT")[index % 2],
            source=f"list {index % 5}",
            num_merged=1 + index % 2,
            values={
                "avoid": ("", "blur")[index % 2],
                "weight": index / 7,
                "is_old": index % 3 == 0,
                "year": 1990 + index * index,
            },
        )
        for index, text in enumerate(captions(20))
    ]
    columns = (*COLUMNS[:1], *SUBJECT_COLUMNS, *COLUMNS[2:])
    plan = Listed(rows, columns)
    identity = identity_of([], columns=columns, num_subjects=20, subjects_per_shard=10)
    shards = ShardSet.begin(open_store(str(tmp_path)), identity, plan, environment={})
    store = Counting(str(tmp_path))
    assert ShardSet(store).subjects(0) == shards.subjects(0) == rows[:10]
    start, length = store.parts[-1]
    data = (tmp_path / PLAN).read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    num_refused = 0
    for offset in (*range(start + length), *range(footer, len(data))):
        broken = bytearray(data)
        broken[offset] ^= 1 << offset % 8
        (tmp_path / PLAN).write_bytes(broken)
        try:
            assert ShardSet.open(str(tmp_path)).subjects(0) == rows[:10], offset
        except CorruptError:
            num_refused += 1
    assert num_refused > 0.5 * (length + len(data) - footer)


@pytest.mark.parametrize("changes", [{"text": "a wolf"}, {"group_index": 1}, {"group_id": 5}])
def test_a_part_whose_rows_are_not_those_of_the_shard_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    shards = begin(tmp_path)
    rows = subject_rows("a red fox", "a blue door", "two pears")
    rows[0] = replace(rows[0], **changes)
    table = subjects_to_table(rows, COLUMNS)
    with (tmp_path / PLAN).open("wb") as file:
        write_tables(file, [table.slice(0, 2), table.slice(2)])
    assert [row.text for row in shards.subjects(1)] == ["two pears"]
    with refused(CorruptError, f"{tmp_path}/{PLAN}: not the plan", "restore it from a copy"):
        shards.subjects(0)


def test_a_bit_that_flips_on_the_way_is_read_again(tmp_path: Path) -> None:
    begin(tmp_path)

    class Flipping(LocalStore):
        """Sends every second part of a file with a wrong bit, the first one too."""

        num_parts = 0

        def read_range(self, path: str, offset: int, length: int) -> bytes:
            data = bytearray(super().read_range(path, offset, length))
            self.num_parts += 1
            data[len(data) // 2] ^= self.num_parts % 2
            return bytes(data)

    for _ in range(2):
        assert [row.text for row in ShardSet(Flipping(str(tmp_path))).subjects(1)] == ["two pears"]


def test_files_of_the_plan_are_compared_by_who_hands_out_their_shards(tmp_path: Path) -> None:
    shards = begin(tmp_path, captions(1001), subjects_per_shard=1)
    shards.plan.require([1000, 3])
    (tmp_path / "subjects/000001.parquet").unlink()
    with refused(CorruptError, "000001.parquet: a part of the plan is gone"):
        shards.plan.require([1000, 3])
    shards.plan.require([3])


def test_a_plan_whose_labels_were_edited_is_refused(tmp_path: Path) -> None:
    """The texts have their ids, so that who reads a part cannot know."""
    shards = begin(tmp_path)
    rows = [replace(row, label="fox") for row in subject_rows("a red fox", "a blue door")]
    table = subjects_to_table([*rows, *subject_rows("", "", "two pears")[2:]], COLUMNS)
    with (tmp_path / PLAN).open("wb") as file:
        write_tables(file, [table.slice(0, 2), table.slice(2)])
    assert shards.subjects(0)[0].label == "fox"
    for call in (lambda: shards.plan.require([1]), lambda: list(shards.all_subjects())):
        with refused(CorruptError, f"{tmp_path}/{PLAN}: not the plan", "restore it from a copy"):
            call()


def test_a_missing_file_that_would_get_other_bytes_is_not_created(tmp_path: Path) -> None:
    """As another version of pyarrow writes them."""
    shards = begin(tmp_path)
    recipe = replace(shards.recipe, subject_files={PLAN: "0" * 64})
    (tmp_path / "recipe.json").write_bytes(recipe.to_bytes())
    (tmp_path / PLAN).unlink()
    with refused(VersionError, f"{tmp_path}/{PLAN}: is missing", "install the version of pyarrow"):
        begin(tmp_path)
    assert not (tmp_path / PLAN).exists()
