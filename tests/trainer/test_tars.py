"""Tars without manifests: where their images lie, and what is known of them at the second start."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manifests.canonical import hash_json
from manifests.storage import open_store
from manifests.storage.local import LocalStore
from tests.picture_sets import make_tars, png
from tests.sets import refused
from trainer.data.foreign_tars import read_groups
from trainer.data.indexed import StoredGroup
from trainer.data.opening import open_source
from trainer.data.sources import Demand
from trainer.data.tars import TarSource
from trainer.errors import CorruptViewError, DataError

DEMAND = Demand(seed=0, num_groups=2, views_per_group=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return png(pixels)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_member_knows_where_it_lies(format: int, tmp_path: Path) -> None:
    """Also behind files that webdataset leaves out, of the same size, and under long names."""
    names = ["a/001", "b" * 70 + "/" + "c" * 60, "caf\u00e9", "z"]
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=format) as tar:
        for index, name in enumerate(names):
            for suffix, content in (("png", picture(index)), ("txt", b"text %d" % index)):
                for file in ("__meta__/" + "x.png", f"{name}.{suffix}", "noextension"):
                    info = tarfile.TarInfo(file)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
            folder = tarfile.TarInfo(f"folder{index}")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
    data = path.read_bytes()
    groups = [members for _, members in read_groups(open_store(str(tmp_path)), "0.tar")]
    assert [len(members) for members in groups] == [2, 2, 2, 2]
    for index, members in enumerate(groups):
        assert members["png"] == picture(index)
        for content in members.values():
            assert data[content.offset : content.offset + len(content)] == content


def test_the_second_start_reads_no_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_tars(tmp_path / "tars", captions=True)
    first = open_source(url)
    assert first.root
    reads: list[str] = []
    read_range = LocalStore.read_range

    def counted(self: LocalStore, path: str, offset: int, length: int) -> bytes:
        reads.append(path)
        return read_range(self, path, offset, length)

    monkeypatch.setattr(LocalStore, "read_range", counted)
    second = open_source(url)
    assert second.root == first.root
    assert reads == []
    groups = second.stream(DEMAND).groups(0, rank=0, world=1)
    assert len(reads) == 2
    assert [group.id for group in groups] == [
        group.id for group in first.stream(DEMAND).groups(0, rank=0, world=1)
    ]


def test_opening_reads_no_tar(tmp_path: Path) -> None:
    """Ranks open their source before they can wait for each other."""
    url = make_tars(tmp_path / "tars")
    (tmp_path / "tars" / "0.tar").write_bytes(b"no tar")
    (tmp_path / "mix.toml").write_text(f'[[sources]]\nurl = "{url}"\n' * 2)
    for source in (open_source(url), open_source(f"mix:{tmp_path / 'mix.toml'}")):
        with refused(DataError, "0.tar"):
            assert source.root


def test_ids_and_order_are_those_of_earlier_versions(tmp_path: Path) -> None:
    """A run that was begun by one is resumed by this one."""
    source = open_source(make_tars(tmp_path / "tars", captions=True))
    assert source.root == "04164f802f2a0d88a4bdd84b3dd6b02bf5cc5ef0ab6aac565d0405385605776c"
    for demand, ids in (
        (DEMAND, [89765117445669898, 7999129104209537880]),
        (replace(DEMAND, splits_groups=True), [6030503792415163169, 7012350333737999787]),
    ):
        groups = source.stream(demand).groups(0, rank=0, world=1)
        assert [group.id for group in groups] == ids


def test_processes_share_the_index_and_hold_nothing_of_it(tmp_path: Path) -> None:
    source = TarSource(make_tars(tmp_path / "tars", captions=True).removeprefix("wds:"))
    source.stream(replace(DEMAND, splits_groups=True))
    index = dict(source._index)
    assert all(isinstance(values, np.memmap) for values in index.values())
    of_the_source = ("root", "firsts", "classes")
    per_image = [values for name, values in index.items() if name not in of_the_source]
    assert {len(values) for values in per_image} == {6}
    assert sum(values.itemsize for values in per_image) == 45
    table = source.table()
    assert table.num_views.strides == (0,)
    assert isinstance(table.ids, np.memmap)


def test_notes_of_an_earlier_version_are_not_read(tmp_path: Path) -> None:
    url = make_tars(tmp_path / "tars")
    status = (tmp_path / "tars" / "0.tar").stat()
    name = hash_json([str(tmp_path / "tars"), {"0.tar": status.st_size}, [status.st_mtime_ns]])
    notes = tmp_path / "cache" / "synth" / "tars" / name[:32]
    notes.mkdir(parents=True)
    (notes / "root.json").write_text('"other"')
    assert open_source(url).root != "other"


def test_what_the_index_says_is_what_the_tars_hold(tmp_path: Path) -> None:
    source = TarSource(make_tars(tmp_path / "tars", captions=True).removeprefix("wds:"))
    for index in range(6):
        group: StoredGroup = source.read(index, [0])
        pixels = np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        assert (group.views[0].data, group.caption) == (png(pixels), f"thing {index}")


def test_tars_that_were_written_again_are_indexed_again(tmp_path: Path) -> None:
    folder = tmp_path / "tars"
    url = make_tars(folder)
    root = open_source(url).root
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    make_tars(folder, count=7)
    assert open_source(url).root != root


def test_an_image_that_changed_since_is_refused(tmp_path: Path) -> None:
    source = TarSource(make_tars(tmp_path / "tars").removeprefix("wds:"))
    assert source.root  # by which the tars are indexed
    path = tmp_path / "tars" / "0.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with refused(CorruptViewError, "0.tar, byte 512", "not the image that was there"):
        source.read(0, [0])
    assert source.read(1, [0]).views[0].data.startswith(b"\x89PNG")


def test_a_cache_that_cannot_be_written_or_is_damaged_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_tars(tmp_path / "tars")
    root = open_source(url).root
    for file in (tmp_path / "cache").rglob("*.npy"):
        file.write_bytes(b"nothing")
    assert open_source(url).root == root
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_source(url).root == root
