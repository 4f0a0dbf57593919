"""A cache that is bounded: what was used longest ago goes first, and nothing that is in use."""

import os
from pathlib import Path

import pytest

from manifests.foundation.caches import LOCK, locked, locked_if_free, shrink


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three folders, used in the order of their names, each with 10 + 20 bytes."""
    for number, name in enumerate("abc"):
        folder = tmp_path / name
        folder.mkdir()
        with locked(folder / LOCK):
            pass
        (folder / "a.npy").write_bytes(bytes(20))
        (folder / "z.json").write_bytes(bytes(10))
        os.utime(folder / LOCK, (1000 + number, 1000 + number))
    return tmp_path


def left(cache: Path) -> list[str]:
    files = sorted(path for path in cache.rglob("*.*") if path.is_file())
    return [str(path.relative_to(cache)) for path in files]


WHOLE = ["a/a.npy", "a/z.json", "b/a.npy", "b/z.json", "c/a.npy", "c/z.json"]


@pytest.mark.parametrize(
    ("max_bytes", "taken", "gone"),
    [(90, 90, 0), (89, 80, 1), (80, 80, 1), (79, 60, 2), (31, 30, 4), (0, 30, 4)],
)
def test_what_was_used_longest_ago_goes_first(
    cache: Path, max_bytes: int, taken: int, gone: int
) -> None:
    """What says that a folder is whole goes before what it says it of."""
    assert shrink(cache, max_bytes, keep=cache / "c") == taken
    order = ["a/z.json", "a/a.npy", "b/z.json", "b/a.npy"]
    assert left(cache) == [name for name in WHOLE if name not in order[:gone]]


def test_a_folder_in_use_stays_and_a_use_makes_it_the_newest(cache: Path) -> None:
    with locked(cache / "a" / LOCK):
        assert shrink(cache, 0, keep=cache / "c") == 60
    assert left(cache) == ["a/a.npy", "a/z.json", "c/a.npy", "c/z.json"]
    assert (cache / "a" / LOCK).stat().st_mtime > 2000


def test_looking_at_a_lock_is_no_use(cache: Path) -> None:
    with locked_if_free(cache / "a" / LOCK) as is_free:
        assert is_free
        with locked_if_free(cache / "a" / LOCK) as is_free:
            assert not is_free
    assert (cache / "a" / LOCK).stat().st_mtime == 1000
