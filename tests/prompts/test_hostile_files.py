"""Files of captions that are made to do harm are refused, in bounded memory and time."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prompts import reading, rows
from prompts.errors import BadPromptError, UnreadablePromptsError
from tests.running import environment
from tests.sets import refused


def read(path: Path) -> int:
    return sum(1 for _ in reading.read_prompts(str(path)))


def parquet(path: Path, columns: dict[str, object], **options: object) -> Path:
    pq.write_table(pa.table(columns), path, compression="zstd", **options)
    return path


def repeated(text: str, count: int) -> pa.Array:
    """One text many times, stored once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [text])


# The limit holds for the whole process, so the file is read in a process of its own.
READ_WITHIN_2_GIB = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from prompts.errors import PromptError
from prompts.reading import read_prompts
try:
    for _ in read_prompts(sys.argv[1]):
        pass
except PromptError as exc:
    print(exc)
"""


def long_texts(path: Path) -> None:
    """A text of 1 MB, 4,000 times."""
    parquet(path, {"caption": repeated("x" * 1_000_000, 4_000)})


def many_texts(path: Path) -> None:
    """A caption of the greatest length, two million times."""
    parquet(path, {"caption": repeated("x" * 2_000, 2_000_000)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "words"),
    [
        (long_texts, "from row 1 on: a caption has 1,000,000 bytes"),
        (many_texts, "more than 2,147,483,648 characters of text"),
    ],
)
def test_parquet_that_unfolds_to_4_gb_is_refused_within_2_gib(
    write: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    write(path)
    assert path.stat().st_size < 1_000_000
    run = subprocess.run(
        [sys.executable, "-c", READ_WITHIN_2_GIB, path],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.startswith(f"{path}"), run.stderr[-2000:]
    assert words in run.stdout
    assert len(run.stdout.splitlines()) == 1


def test_parquet_of_which_a_row_group_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        {"caption": ["x" * 1000] * 2000},
        use_dictionary=False,
        row_group_size=1000,
    )
    monkeypatch.setattr("prompts.parquet.MAX_GROUP_BYTES", 1_100_000)
    assert read(path) == 2000
    monkeypatch.setattr("prompts.parquet.MAX_GROUP_BYTES", 1_000_000)
    assert path.stat().st_size < 1_000_000
    with refused(UnreadablePromptsError, f"{path}, from row 1 on: a row group unpacks to 1,00"):
        read(path)


def test_texts_are_counted_over_all_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("caption,label,source\nabc,de,f\nabc,de,f\n")
    monkeypatch.setattr(rows, "MAX_UNFOLDING", 0)
    monkeypatch.setattr(rows, "MAX_TEXT_CHARS", 12)
    assert read(path) == 2
    monkeypatch.setattr(rows, "MAX_TEXT_CHARS", 11)
    with refused(UnreadablePromptsError, f"{path}: more than 11 characters of text"):
        read(path)


def test_captions_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\nb\nc\n")
    monkeypatch.setattr(rows, "MAX_SUBJECTS", 3)
    assert read(path) == 3
    monkeypatch.setattr(rows, "MAX_SUBJECTS", 2)
    with refused(UnreadablePromptsError, f"{path}: more than 2 captions; make several sets"):
        read(path)


def test_a_small_file_holds_no_more_than_its_size_can_account_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "a.parquet", {"caption": repeated("ab", 100_000)})
    size = path.stat().st_size
    assert size < 10_000
    monkeypatch.setattr(rows, "MAX_PROMPTS", 1000)
    with refused(UnreadablePromptsError, f"{path}: more than {max(size, 1000):,} captions"):
        read(path)
    monkeypatch.setattr(rows, "MAX_PROMPTS", 100_000)
    assert read(path) == 100_000
    monkeypatch.setattr(rows, "MAX_TEXT_CHARS", 100_000)
    monkeypatch.setattr(rows, "MAX_UNFOLDING", 2)
    with refused(UnreadablePromptsError, f"{path}: more than 100,000 characters of text"):
        read(path)
    monkeypatch.setattr(rows, "MAX_UNFOLDING", 200_000)
    assert read(path) == 100_000


@pytest.mark.parametrize("suffix", ["txt", "csv", "tsv", "jsonl", "parquet"])
def test_what_is_no_regular_file_is_refused(suffix: str, tmp_path: Path) -> None:
    num_threads = threading.active_count()
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"folder.{suffix}").mkdir()
    for name, words in {
        "pipe": "is a pipe or a device, expected a regular file",
        "zero": "is a pipe or a device, expected a regular file",
        "folder": "is a folder, expected a file",
    }.items():
        path = tmp_path / f"{name}.{suffix}"
        with refused(UnreadablePromptsError, f"{path}: {words}; look at the file"):
            read(path)
    assert threading.active_count() == num_threads  # none is left that waits for the pipe


def test_a_file_of_many_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.touch()
    os.truncate(path, 1 << 40)  # a sparse file of zeros: it takes no room on the disk
    with refused(UnreadablePromptsError, f"{path}: a binary file"):
        read(path)
    os.truncate(path, (1 << 40) + 1)
    with refused(UnreadablePromptsError, f"{path}: is larger than 1,099,511,627,776 bytes"):
        read(path)
    os.rename(path, path.with_suffix(".parquet"))
    with refused(UnreadablePromptsError, "a.parquet: is larger than 1,099,511,627,776 bytes"):
        read(path.with_suffix(".parquet"))


class Endless(io.RawIOBase):
    """A stream of one line without an end, or of empty lines."""

    def __init__(self, byte: bytes) -> None:
        self._byte = byte

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        buffer[:] = self._byte * len(buffer)
        return len(buffer)


@pytest.mark.parametrize(
    ("byte", "words"),
    [
        (b"x", "a row of more than 1,048,576 characters"),
        (b"\n", "is larger than 8,388,608 bytes"),
        (b" ", "a row of more than"),
        (b"\0", "a binary file"),
    ],
)
def test_a_stream_that_never_ends_is_refused(
    byte: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prompts.opening.MAX_FILE_BYTES", 8 << 20)
    stream = io.TextIOWrapper(io.BufferedReader(Endless(byte)))
    monkeypatch.setattr("sys.stdin", stream)
    with refused(UnreadablePromptsError, f"standard input: {words}"):
        list(reading.read_prompts("-"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", "x" * 3_000_000),
        ("a.csv", "caption\n" + '"a\n",' * 1_000_000),
        ("a.csv", ",".join(["caption"] * 300_000)),
        ("a.jsonl", "[" + "[]," * 1_000_000),
    ],
    ids=["line", "fields", "header", "json"],
)
def test_a_row_of_a_million_characters_is_refused(name: str, data: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(data)
    with refused(UnreadablePromptsError, f"{path}: a row of more than 1,048,576 characters"):
        read(path)


def test_a_nul_is_refused_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"caption": "a"}\n{"caption": "a\\u0000b"}\n')
    (tmp_path / "b.jsonl").write_text('{"caption": "a", "label": "\\u0000"}\n')
    parquet(tmp_path / "a.parquet", {"caption": ["a", "a\0b"]})
    for name, words in {
        "a.jsonl": "row 2: the caption holds a NUL character; remove it",
        "b.jsonl": "row 1: the label holds a NUL character",
        "a.parquet": "row 2: the caption holds a NUL character",
    }.items():
        with refused(BadPromptError, f"{tmp_path / name}, {words}"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["caption", "label"])
def test_two_columns_of_one_name_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"caption,label,{name}\na,b,c\n")
    (tmp_path / "a.jsonl").write_text(f'{{"caption": "a", "label": "b", "{name}": "c"}}\n')
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["caption", "label", name])
    pq.write_table(table, tmp_path / "a.parquet")
    for file, words in {
        "a.csv": f"two columns are named '{name}'; rename one",
        "a.jsonl": f"line 1: not JSON (two keys of one object are '{name}')",
        "a.parquet": f"two columns are named '{name}'; rename one",
    }.items():
        with refused(UnreadablePromptsError, str(tmp_path / file), words):
            read(tmp_path / file)


def test_two_columns_that_nobody_reads_may_share_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption,note,note\na,b,c\n")
    assert read(tmp_path / "a.csv") == 1


@pytest.mark.parametrize("values", [[["a"]], [{"a": 1}], [b"a"]], ids=["list", "struct", "binary"])
def test_a_column_that_is_no_text_is_refused(values: list[object], tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"caption": values})
    with refused(UnreadablePromptsError, f"{path}: column 'caption' is of type", "expected text"):
        read(path)


def test_a_message_about_columns_is_short(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"{number}" for number in range(100_000)) + "\n")
    with pytest.raises(UnreadablePromptsError, match="no column 'caption'") as caught:
        read(path)
    assert len(str(caught.value)) < 1000


def test_a_dictionary_of_the_writer_is_read(tmp_path: Path) -> None:
    table = pa.table({"caption": pa.array(["a", "b", "a"]).dictionary_encode(), "label": [1, 2, 3]})
    file = io.BytesIO()
    pq.write_table(table, file)
    (tmp_path / "a.parquet").write_bytes(file.getvalue())
    prompts = list(reading.read_prompts(str(tmp_path / "a.parquet")))
    cells = [(prompt.caption, prompt.label) for prompt in prompts]
    assert cells == [("a", "1"), ("b", "2"), ("a", "3")]
