"""Ranks that share a labelled set in tars: each byte is read by one of them."""

import gzip
import io
import os
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from manifests.storage.local import LocalStore
from tests.labelled_sets import encoded, labelled_members, write_tar
from tests.sets import refused
from trainer.data.tar_parts import LOCAL_READ_BYTES
from trainer.errors import DataError
from trainer.labelled_sets import LabelledImage, Split, open_labelled

Reads = Counter[str]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Bytes that are read of each file from now on."""
    num_bytes: Reads = Counter()
    read_range = LocalStore.read_range

    def counted(self: LocalStore, path: str, offset: int, length: int) -> bytes:
        data = read_range(self, path, offset, length)
        num_bytes[path] += len(data)
        return data

    monkeypatch.setattr(LocalStore, "read_range", counted)
    return num_bytes


def make_set(root: Path, *counts: int) -> str:
    """A tar for each count, with so many images of noise."""
    rng = np.random.default_rng(0)
    for tar, count in enumerate(counts):
        members = {}
        for number in range(count):
            pixels = rng.integers(0, 256, (100, 100, 3)).astype(np.uint8)
            members[f"{number}.png"] = encoded(pixels, "png")
            members[f"{number}.cls"] = str(number % 2).encode()
        write_tar(root / "train" / f"{tar}.tar", members)
    return f"wds:{root}"


def parts(split: Split, world: int) -> list[list[LabelledImage]]:
    return [list(split.images(rank=rank, world=world)) for rank in range(world)]


def merged(split: Split, world: int) -> list[LabelledImage]:
    images = [image for part in parts(split, world) for image in part]
    return sorted(images, key=lambda image: image.position)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_read_whole_tars_of_which_there_are_enough(
    tmp_path: Path, reads: Reads, world: int
) -> None:
    split = open_labelled(make_set(tmp_path, 3, 1, 4)).split("train")
    whole = list(split.images())
    reads.clear()
    assert merged(split, world) == whole
    sizes = {f"train/{path.name}": path.stat().st_size for path in tmp_path.glob("train/*")}
    assert reads == sizes


def test_ranks_read_their_parts_of_tars_of_which_there_are_too_few(
    tmp_path: Path, reads: Reads
) -> None:
    split = open_labelled(make_set(tmp_path, 5, 8)).split("train")
    whole = list(split.images())
    sizes = {f"train/{path.name}": path.stat().st_size for path in tmp_path.glob("train/*")}
    reads.clear()
    shares = parts(split, 4)
    assert [len(part) for part in shares] == [3, 3, 3, 4]
    assert [image for part in shares for image in part] == whole
    for path, num_images in (("train/0.tar", 5), ("train/1.tar", 8)):
        headers = (num_images + 2) * LOCAL_READ_BYTES
        assert sizes[path] <= reads[path] <= sizes[path] + headers < 2 * sizes[path]
    reads.clear()
    assert merged(split, 4) == whole
    assert reads == sizes


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_groups_begin_where_webdataset_has_them_begin(tmp_path: Path, form: int) -> None:
    """Also behind files that it leaves out, and under names that have headers of their own."""
    path = tmp_path / "train" / "0.tar"
    path.parent.mkdir()
    names = ["a/001", "b" * 70 + "/" + "c" * 60, "caf\u00e9", "d.e/f", "z"]
    with tarfile.open(path, "w", format=form) as tar:
        for number, name in enumerate(names):
            for suffix, content in (("JPG", b"%d" % number * 700), ("cls", b"1")):
                for file in ("__meta__/x.png", f"{name}.{suffix}", "noextension"):
                    info = tarfile.TarInfo(file)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
            folder = tarfile.TarInfo(f"folder{number}.cls")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
    split = open_labelled(f"wds:{tmp_path}").split("train")
    whole = list(split.images())
    assert [image.data[:1] for image in whole] == [b"0", b"1", b"2", b"3", b"4"]
    for world in (2, 5, 7):
        assert merged(split, world) == whole


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2 // 512 * 512]


def changed(data: bytes) -> bytes:
    second = data.index(b"1.png")
    return data[:second] + b"x" + data[second + 1 :]


@pytest.mark.parametrize("damage", [cut, changed, gzip.compress, lambda data: data * 2])
def test_a_broken_tar_passes_on_no_number_of_ranks(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    on = make_set(tmp_path, 6)
    path = tmp_path / "train/0.tar"
    path.write_bytes(damage(path.read_bytes()))
    for world in (1, 2, 3, 7):
        with refused(DataError, "train/0.tar: "):
            parts(open_labelled(on).split("train"), world)


def test_a_key_that_comes_twice_is_refused_by_any_number_of_ranks(tmp_path: Path) -> None:
    pairs = [*labelled_members([0, 1, 0]).items(), *labelled_members([0]).items()]
    write_tar(tmp_path / "train/0.tar", pairs)
    for world in (1, 2, 4):
        with refused(DataError, "train/0.tar: 0000 comes twice"):
            parts(open_labelled(f"wds:{tmp_path}").split("train"), world)


def test_a_tar_with_other_groups_at_the_same_size_is_not_mistaken_for_the_old_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "train/0.tar"
    pairs = [("0.png", bytes(5000)), ("0.cls", b"1"), ("1.png", bytes(600)), ("1.cls", b"0")]
    write_tar(path, pairs)
    split = open_labelled(f"wds:{tmp_path}").split("train")
    assert len(merged(split, 2)) == 2
    status = path.stat()
    write_tar(path, pairs[2:] + pairs[:2])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    for rank in range(2):
        with refused(DataError, "train/0.tar"):
            list(split.images(rank=rank, world=2))
