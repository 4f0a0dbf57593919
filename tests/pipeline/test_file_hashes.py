"""Weights are hashed once by a machine, and again as soon as they are others."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import file_hashes
from pipeline.file_hashes import MIN_BYTES, hash_of


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "synth" / "hashes"


def write(path: Path, data: bytes, time_ns: int = 0) -> str:
    path.write_bytes(data)
    if time_ns:
        os.utime(path, ns=(time_ns, time_ns))
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_hashed_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    expected = write(path, b"a" * MIN_BYTES)
    assert hash_of(path) == expected
    monkeypatch.setattr(file_hashes, "hash_file", lambda path: pytest.fail("hashed again"))
    assert hash_of(path) == expected


def test_a_changed_file_is_hashed_again(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write(path, b"a" * MIN_BYTES, 1)
    hash_of(path)
    second = write(path, b"b" * MIN_BYTES, 2)
    assert hash_of(path) == second
    third = write(path, b"c" * (MIN_BYTES + 1), 2)
    assert hash_of(path) == third


def test_small_files_and_broken_notes_cost_no_truth(cache: Path, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    expected = write(small, b"a")
    assert hash_of(small) == expected
    assert not cache.exists()
    expected = write(large, b"a" * MIN_BYTES)
    hash_of(large)
    (note,) = cache.glob("*.sha256")
    note.write_text(expected[:40])  # a process was killed while it wrote
    assert hash_of(large) == expected


def test_without_a_place_for_notes_a_file_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = tmp_path / "weights"
    expected = write(path, b"a" * MIN_BYTES)
    assert hash_of(path) == expected


def test_processes_that_start_together_hash_once(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    expected = write(path, b"a" * MIN_BYTES)
    log = tmp_path / "log"
    code = (
        "import sys\nfrom pathlib import Path\nfrom pipeline import file_hashes as f\n"
        "stock = f.hash_file\n"
        "def hash_file(path):\n    open(sys.argv[2], 'a').write('x')\n    return stock(path)\n"
        "f.hash_file = hash_file\nprint(f.hash_of(Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", code, str(path), str(log)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate(timeout=120)[0].strip() for process in running} == {expected}
    assert log.read_text() == "x"
