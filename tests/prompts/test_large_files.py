"""Files of any size are read in pieces, and a piece ends anywhere."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.errors import UnreadablePromptsError
from prompts.reading import read_prompts
from tests.running import environment
from tests.sets import refused

LINE = "a \u72d0 and a caf\u00e9 \U0001f98a"
TEXTS = [f"{LINE} {number}" for number in range(20)]


def text(path: Path, texts: list[str]) -> None:
    path.write_bytes("\r\n".join(texts).encode())


def table(path: Path, texts: list[str]) -> None:
    rows = "".join(f'"{one}\r\nand more",x\r\n' for one in texts)
    path.write_bytes(f"\ufeffcaption,label\r\n{rows}".encode())


def json_lines(path: Path, texts: list[str]) -> None:
    lines = [json.dumps({"caption": one}, ensure_ascii=False) for one in texts]
    path.write_bytes("\n".join(lines).encode())


def parquet(path: Path, texts: list[str]) -> None:
    # Pages of some hundred bytes, in one row group.
    options = {"data_page_size": 1 << 10, "use_dictionary": False, "compression": "none"}
    pq.write_table(pa.table({"caption": texts}), path, **options)


WRITERS: dict[str, Callable[[Path, list[str]], None]] = {
    "a.txt": text,
    "a.csv": table,
    "a.jsonl": json_lines,
    "a.parquet": parquet,
}


@pytest.mark.parametrize("piece_bytes", [1, 2, 7, 64])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_many_pieces_is_read_as_one_of_one(
    name: str, piece_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[name](tmp_path / name, TEXTS)
    whole = list(read_prompts(str(tmp_path / name)))
    assert [prompt.caption.splitlines()[0] for prompt in whole] == TEXTS
    for module in ("opening", "lines", "parquet"):
        monkeypatch.setattr(f"prompts.{module}.PIECE_BYTES", piece_bytes)
    assert list(read_prompts(str(tmp_path / name))) == whole


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_many_pieces_in_a_bucket(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[name](tmp_path / name, TEXTS)
    expected = [prompt.caption for prompt in read_prompts(str(tmp_path / name))]
    monkeypatch.setattr("prompts.opening.PIECE_BYTES", 100)
    files = fsspec.filesystem("memory")
    files.pipe_file(f"/pieces/{name}", (tmp_path / name).read_bytes())
    try:
        assert [one.caption for one in read_prompts(f"memory://pieces/{name}")] == expected
    finally:
        files.rm("/pieces", recursive=True)


@given(
    lines=st.lists(st.text(st.sampled_from("ab \u00e9\u72d0\r\x0b\u2028\ufeff")), max_size=8),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    piece_bytes=st.integers(1, 9),
)
def test_lines_do_not_depend_on_where_a_piece_ends(
    lines: list[str], end: str, piece_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes(("x" + end + end.join(lines)).encode())
    expected = io.TextIOWrapper(io.BytesIO(path.read_bytes()), encoding="utf-8-sig").readlines()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prompts.opening.PIECE_BYTES", piece_bytes)
        patch.setattr("prompts.lines.PIECE_BYTES", piece_bytes)
        captions = [prompt.caption for prompt in read_prompts(str(path))]
    assert captions == [line.rstrip("\n") for line in expected if line.strip()]


@pytest.mark.parametrize("piece_bytes", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"fine\n" * 9 + b"caf\xe9 au lait\n", ", line 10: not UTF-8 (byte 0xe9)"),
        (b"fine\n" * 9 + b"fox \xf0\x9f\xa6", ", line 10: not UTF-8 (byte 0xf0)"),
        (b"fine\n" * 9 + b"PK\0\n", ": a binary file, expected text in UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_in_a_later_piece(
    data: bytes, words: str, piece_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prompts.opening.PIECE_BYTES", piece_bytes)
    (tmp_path / "a.txt").write_bytes(data)
    with refused(UnreadablePromptsError, f"{tmp_path}/a.txt{words}"):
        list(read_prompts(str(tmp_path / "a.txt")))


@pytest.mark.parametrize(("name", "change"), [("a.txt", b"x"), ("a.txt", b""), ("a.parquet", b"x")])
def test_a_file_that_changes_while_it_is_read_is_refused(
    name: str, change: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    WRITERS[name](path, TEXTS * 1000)
    monkeypatch.setattr("prompts.opening.PIECE_BYTES", 8)
    monkeypatch.setattr("prompts.lines.PIECE_BYTES", 8)
    prompts = read_prompts(str(path))
    next(prompts)
    data = path.read_bytes()
    with path.open("r+b") as file:  # the same file, and not another one of its name
        file.truncate(len(data) if change else len(data) // 2)
        file.seek(0, io.SEEK_END)
        file.write(change)
    with refused(UnreadablePromptsError, f"{path}: changed while it was read"):
        list(prompts)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_memory_does_not_hold_the_file(name: str, tmp_path: Path) -> None:
    """In a process of its own: 400 MB of captions in less than 50 MB more than it takes itself."""
    block = "words " * 330
    WRITERS[name](tmp_path / name, [f"{number} {block}" for number in range(200_000)])
    assert (tmp_path / name).stat().st_size > 350 * 10**6
    code = """
import sys
from benchmarks.machine import resident_bytes
from prompts.reading import read_prompts
import pyarrow.parquet
before = resident_bytes("VmRSS")
assert sum(1 for _ in read_prompts(sys.argv[1])) == 200_000
print(resident_bytes("VmHWM") - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / name],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 50 << 20
