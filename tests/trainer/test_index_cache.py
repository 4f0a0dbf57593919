"""A large index is read once by a machine, and gives the same steps from its disk."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.picture_sets import make_picture_set
from trainer.data import index_cache, shard_sets
from trainer.data.index_cache import Arrays, mapped
from trainer.data.shard_sets import ShardSetSource
from trainer.data.sources import Demand

DEMAND = Demand(seed=3, num_groups=4, views_per_group=2, reads=frozenset({"captions"}))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def steps_of(url: Path) -> list[Any]:
    stream = ShardSetSource(str(url)).stream(DEMAND)
    groups = [group for step in range(4) for group in stream.groups(step, rank=0, world=1)]
    return [(group.id, group.caption, [view.index for view in group.views]) for group in groups]


def test_a_second_process_reads_the_index_from_disk_and_gets_the_same_steps(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_picture_set(tmp_path / "set")
    expected = steps_of(tmp_path / "set")
    assert not cache.exists()  # a small set is not kept
    monkeypatch.setattr(shard_sets, "SHARED_FROM", 1)
    assert steps_of(tmp_path / "set") == expected
    reads: list[str] = []
    monkeypatch.setattr(ShardSetSource, "_index_file", lambda self, path: reads.append(path))
    assert steps_of(tmp_path / "set") == expected
    assert reads == []


def test_a_damaged_file_is_read_anew(cache: Path) -> None:
    calls: list[int] = []

    def read() -> Arrays:
        calls.append(1)
        return {"ids": np.arange(1000), "classes": np.array(["a", "ü"])}

    for _ in range(2):
        arrays = mapped("root", read)
        assert arrays["ids"].tolist() == [*range(1000)]
        assert arrays["classes"].tolist() == ["a", "ü"]
    assert len(calls) == 1
    file = cache / "synth" / "index" / "root" / "ids.npy"
    file.write_bytes(file.read_bytes()[:-9])
    assert mapped("root", read)["ids"].tolist() == [*range(1000)]
    assert len(calls) == 2


def test_where_nothing_can_be_kept_the_index_is_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_bytes(b"a file in the place of the folder")
    assert mapped("root", lambda: {"ids": np.arange(3)})["ids"].tolist() == [0, 1, 2]


def test_an_index_that_was_used_longest_ago_makes_room(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def kept(name: str) -> Arrays:
        def read() -> Arrays:
            calls.append(name)
            return {"ids": np.arange(100)}

        arrays = mapped(name, read)
        now = time.time() + len(calls)  # of another use, to the second
        os.utime(cache / "synth" / "index" / name / "lock", (now, now))
        return arrays

    kept("first")
    files = (cache / "synth" / "index" / "first").iterdir()
    monkeypatch.setattr(index_cache, "MAX_BYTES", 2 * sum(path.stat().st_size for path in files))
    arrays = [kept(name) for name in ("first", "second", "third", "second", "first")]
    assert calls == ["first", "second", "third", "first"]
    assert all(array["ids"].tolist() == [*range(100)] for array in arrays)  # gone, and mapped
