"""Tars that a machine keeps: the same batches, a bound that holds, and faults that do no harm."""

import errno
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.foundation.caches import LOCK, locked_if_free
from manifests.foundation.errors import ConfigError
from manifests.shard_set import ShardSet
from manifests.storage.local import LocalStore
from tests.picture_sets import make_picture_set, make_tars
from tests.sets import refused
from trainer.data import tar_cache
from trainer.data.opening import open_source
from trainer.data.sources import Cache, Demand
from trainer.data.tar_cache import TarCache, WholeTar

NUM_STEPS = 6


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "notes"))
    monkeypatch.setattr(tar_cache, "PAUSE_S", 0.02)


def cache(tmp_path: Path, max_bytes: int = 1 << 30) -> Cache:
    return Cache(folder=tmp_path / "cache", max_bytes=max_bytes)


def tars_of(url: str, kept: Cache) -> TarCache:
    """The cache of a set, of which no thread fetches anything yet."""
    source: Any = open_source(url)
    source.stream(Demand(seed=0, num_groups=1, views_per_group=1, cache=kept))
    tars: TarCache = source._tars.cache
    return tars


def kept_tars(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "synth-tars").glob("*/[0-9]*.tar"))


def num_bytes(tmp_path: Path) -> int:
    files = (tmp_path / "cache").rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def groups_of(url: str, kept: Cache | None, **changes: Any) -> list[Any]:
    """All that comes from a source in some steps."""
    values = {"seed": 1, "num_groups": 4, "views_per_group": 1, "cache": kept}
    stream = open_source(url).stream(Demand(**values | changes))
    return [
        (group.id, group.turn, group.caption, [view.pixels.tobytes() for view in group.views])
        for step in range(NUM_STEPS)
        for group in stream.groups(step, rank=0, world=1)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_batches_are_the_same_however_much_is_kept(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    num_subjects, per_shard = int(rng.integers(4, 20)), int(rng.integers(1, 6))
    url = str(tmp_path / "set")
    make_picture_set(url, num_subjects=num_subjects, subjects_per_shard=per_shard)
    demand = {"views_per_group": int(rng.integers(1, 4)), "seed": seed}
    if rng.integers(2):
        demand = {"splits_groups": True}
    sizes = [path.stat().st_size for path in Path(url, "data").glob("*.tar")]
    expected = groups_of(url, None, **demand)
    for num, max_bytes in enumerate([1, int(rng.integers(1, sum(sizes))), sum(sizes)]):
        folder = tmp_path / str(num)
        kept = cache(folder, max_bytes)
        assert groups_of(url, kept, **demand) == expected  # while a thread fetches
        tars_of(url, kept).fetch()
        assert groups_of(url, kept, **demand) == expected
        assert num_bytes(folder) <= max_bytes
    assert len(kept_tars(folder)) == len(sizes)


def test_what_is_kept_is_not_read_from_the_source(tmp_path: Path) -> None:
    url = str(tmp_path / "set")
    make_picture_set(url)
    expected = groups_of(url, None)
    tars_of(url, cache(tmp_path)).fetch()
    for path in Path(url, "data").glob("*.tar"):
        path.unlink()
    assert groups_of(url, cache(tmp_path)) == expected


def test_tars_without_manifests_are_kept(tmp_path: Path) -> None:
    url = make_tars(tmp_path / "tars", captions=True)
    expected = groups_of(url, None, reads=frozenset({"captions"}))
    tars_of(url, cache(tmp_path)).fetch()
    (tar,) = kept_tars(tmp_path)
    assert tar.read_bytes() == (tmp_path / "tars" / "0.tar").read_bytes()
    assert groups_of(url, cache(tmp_path), reads=frozenset({"captions"})) == expected


def test_all_parts_of_a_mixture_are_kept(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_picture_set(tmp_path / name, num_subjects=6 if name == "a" else 9)
    mixture = tmp_path / "mixture.toml"
    tables = [f"[[sources]]\nurl = '{tmp_path / name}'\n" for name in ("a", "b")]
    mixture.write_text("".join(tables))
    expected = groups_of(f"mix:{mixture}", None)
    assert groups_of(f"mix:{mixture}", cache(tmp_path)) == expected
    for name in ("a", "b"):
        tars_of(str(tmp_path / name), cache(tmp_path)).fetch()
    assert len(kept_tars(tmp_path)) == 2 + 3
    assert groups_of(f"mix:{mixture}", cache(tmp_path)) == expected


def test_a_tar_that_was_damaged_on_the_disk_is_read_from_the_source(tmp_path: Path) -> None:
    url = str(tmp_path / "set")
    make_picture_set(url)
    expected = groups_of(url, None, views_per_group=3)
    tars_of(url, cache(tmp_path)).fetch()
    damaged = kept_tars(tmp_path)[1]
    damaged.write_bytes(bytes(damaged.stat().st_size))
    cut = kept_tars(tmp_path)[2]
    cut.write_bytes(cut.read_bytes()[:100])
    assert groups_of(url, cache(tmp_path), views_per_group=3) == expected
    # It may be here again, and right, because a thread goes on fetching.
    assert damaged not in kept_tars(tmp_path) or any(damaged.read_bytes())


def test_a_share_that_another_process_fetches_keeps_no_other_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_picture_set(tmp_path / "set")
    tars = tars_of(str(tmp_path / "set"), cache(tmp_path))

    class WaitingError(Exception):
        pass

    def wait(seconds: float) -> None:
        raise WaitingError

    monkeypatch.setattr(tar_cache.time, "sleep", wait)
    with locked_if_free(Path(tars._folder) / "fetching-0"), pytest.raises(WaitingError):
        tars.fetch()
    assert [path.name for path in kept_tars(tmp_path)] == ["000001.tar", "000002.tar", "000003.tar"]


def test_a_tar_that_was_cut_on_the_disk_is_removed(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    tars = tars_of(str(tmp_path / "set"), cache(tmp_path))
    tars.fetch()
    first = kept_tars(tmp_path)[0]
    size = first.stat().st_size
    first.write_bytes(b"")
    tars._process = os.getpid()  # so that no thread fetches it again meanwhile
    assert tars.read(0, 0, size) is None
    assert not first.exists()


def test_a_tar_that_is_not_the_sealed_one_is_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = str(tmp_path / "set")
    shards = make_picture_set(url)
    changed, longer, gone = (Path(url, shards.layout.tar(shard)) for shard in (0, 1, 2))
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    longer.write_bytes(longer.read_bytes() + bytes(512))
    gone.unlink()
    tars_of(url, cache(tmp_path)).fetch()
    assert [path.name for path in kept_tars(tmp_path)] == ["000003.tar"]
    assert len(caplog.messages) == 3
    assert all("not kept" in message for message in caplog.messages)


def test_sources_that_nobody_reads_make_room_and_those_in_use_do_not(tmp_path: Path) -> None:
    urls = [str(tmp_path / name) for name in ("first", "second", "third")]
    for number, url in enumerate(urls):
        make_picture_set(url, num_subjects=12 + number)
    sizes = [sum(path.stat().st_size for path in Path(url, "data").glob("*.tar")) for url in urls]
    kept = cache(tmp_path, sizes[0] + sizes[1])
    tars = [tars_of(url, kept) for url in urls]
    for tar in tars[:2]:
        tar.fetch()
    assert num_bytes(tmp_path) == sizes[0] + sizes[1]
    folders = [Path(tar._folder) for tar in tars]
    for number, folder in enumerate(folders[:2]):  # the second was used last
        os.utime(folder / LOCK, (1000 + number, 1000 + number))
    with (folders[0] / LOCK).open() as lock:
        tar_cache.fcntl.flock(lock, tar_cache.fcntl.LOCK_SH)
        tars[2].fetch()
        assert len([*folders[0].glob("*.tar")]) == 4
    remaining = len([*folders[1].glob("*.tar")])
    assert num_bytes(tmp_path) <= kept.max_bytes
    for path in kept_tars(tmp_path):
        if path.parent == folders[2]:
            path.unlink()
    tars[2].fetch()
    assert len([*folders[2].glob("*.tar")]) == 5
    assert len([*folders[1].glob("*.tar")]) == remaining  # the one used longest ago went first
    assert num_bytes(tmp_path) <= kept.max_bytes


def test_a_bound_that_was_lowered_holds_once_the_source_is_not_read(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    make_picture_set(tmp_path / "other", num_subjects=3)
    tars_of(str(tmp_path / "set"), cache(tmp_path)).fetch()
    (size,) = (path.stat().st_size for path in (tmp_path / "other" / "data").glob("*.tar"))
    tars_of(str(tmp_path / "other"), cache(tmp_path, size)).fetch()
    assert num_bytes(tmp_path) == size


@pytest.mark.parametrize("reason", ["no room", "error"])
def test_a_full_disk_is_one_warning_and_plain_reads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reason: str,
) -> None:
    url = str(tmp_path / "set")
    make_picture_set(url)
    expected = groups_of(url, None)
    if reason == "no room":
        monkeypatch.setattr(tar_cache, "SPARE_BYTES", 1 << 60)
    else:

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
    tars_of(url, cache(tmp_path)).fetch()
    (message,) = caplog.messages
    assert "no more tars are kept" in message
    assert "bytes of the disk are free" in message or "No space left" in message
    assert num_bytes(tmp_path) == 0
    assert groups_of(url, cache(tmp_path)) == expected


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    (tmp_path / "cache").write_bytes(b"a file in the place of the folder")
    with refused(ConfigError, "data.cache_dir", str(tmp_path / "cache"), "cannot be written"):
        tars_of(str(tmp_path / "set"), cache(tmp_path))


def in_process(action: Callable[[], None]) -> Any:
    process = get_context("fork").Process(target=action)
    process.start()
    return process


def test_a_process_that_is_killed_leaves_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "set")
    make_picture_set(url)
    sealed = sorted(path.read_bytes() for path in Path(url, "data").glob("*.tar"))
    fsync, calls = os.fsync, iter(range(100))

    def killed(descriptor: int) -> None:
        if next(calls) == 2:  # the second tar is written and has no name yet
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        process = in_process(tars_of(url, cache(tmp_path)).fetch)
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(kept_tars(tmp_path)) == 1
    assert len([*(tmp_path / "cache").rglob(".tmp-*")]) == 1
    tars_of(url, cache(tmp_path)).fetch()
    assert sorted(path.read_bytes() for path in kept_tars(tmp_path)) == sealed
    assert not [*(tmp_path / "cache").rglob(".tmp-*")]


def test_each_tar_is_fetched_by_one_process_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "set")
    make_picture_set(url, num_subjects=24, subjects_per_shard=2)
    log, opened = tmp_path / "opened", LocalStore.open

    def noted(self: LocalStore, path: str) -> Any:
        with log.open("a") as file:
            file.write(f"{path}\n")
        time.sleep(0.01)  # so that they meet
        return opened(self, path)

    monkeypatch.setattr(LocalStore, "open", noted)
    processes = [in_process(tars_of(url, cache(tmp_path)).fetch) for _ in range(4)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    paths = log.read_text().split()
    assert len(paths) == len(set(paths)) == 12
    assert len(kept_tars(tmp_path)) == 12


@pytest.fixture
def held(tmp_path: Path) -> TarCache:
    make_picture_set(tmp_path / "set")
    return tars_of(str(tmp_path / "set"), cache(tmp_path))


def test_who_reads_holds_the_source_until_its_end(held: TarCache, tmp_path: Path) -> None:
    def is_free() -> bool:
        with tar_cache.locked_if_free(tmp_path / "cache/synth-tars" / name / LOCK) as free:
            return free

    name = held._folder.name
    assert name == ShardSet.open(str(tmp_path / "set")).seal().root_sha256  # type: ignore[union-attr]
    assert is_free()

    def read() -> None:
        held.read(0, 0, 512)
        time.sleep(60)

    process = in_process(read)
    while is_free():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert is_free()


def test_sizes_and_hashes_come_from_the_seal(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    source: Any = open_source(str(tmp_path / "set"))
    for shard, path in enumerate(sorted((tmp_path / "set" / "data").glob("*.tar"))):
        tar: WholeTar = source._tar(shard)
        assert (tar.path, tar.num_bytes) == (f"data/{path.name}", path.stat().st_size)
        assert tar.sha256 == tar_cache.sha256(path.read_bytes()).hexdigest()
