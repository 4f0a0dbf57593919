import json
from pathlib import Path

import pytest

from manifests.canonical import sha256_hex
from manifests.errors import ContractError, CorruptError
from manifests.layout import CARD, SEAL, SIZES
from manifests.seal_writer import seal_set
from manifests.storage.errors import StoreError
from manifests.storage.local import LocalStore
from manifests.validation import validate_shard_set
from tests.sets import CAPTIONS, begin, commit, make_set, refused, tree


def test_seal_names_and_hashes_every_file(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    seal = shards.seal()
    assert seal is not None
    files = tree(tmp_path)
    tars = {f"data/00000{each.shard}.tar": each.tar_sha256 for each in seal.shards}
    manifests = {
        f"manifests/00000{each.shard}.parquet": each.manifest_sha256 for each in seal.shards
    }
    hashes = {path: sha256_hex(content) for path, content in files.items() if path != SEAL}
    assert {**seal.files, **tars, **manifests} == hashes
    assert list(files) == [
        "README.md",
        "data/000000.tar",
        "data/000001.tar",
        "data/sizes.json",
        "dataset.json",
        "manifests/000000.parquet",
        "manifests/000001.parquet",
        "prompts/000000.parquet",
        "recipe.json",
        "stats/000000.json",
        "stats/000001.json",
    ]
    assert (seal.counts["num_views"], seal.counts["num_ok"], seal.missing) == (6, 5, [])


def test_sizes_count_the_images_of_each_tar(tmp_path: Path) -> None:
    make_set(tmp_path)
    assert json.loads((tmp_path / SIZES).read_text()) == {"000000.tar": 3, "000001.tar": 2}


def test_a_sealed_set_is_left_as_it_is(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    before = tree(tmp_path)
    assert seal_set(shards) == seal_set(shards, incomplete=True) == shards.seal()
    assert tree(tmp_path) == before


def test_a_shard_that_is_made_after_an_incomplete_seal_does_not_change_it(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    commit(shards, 0)
    seal = seal_set(shards, incomplete=True)
    before = tree(tmp_path)
    commit(shards, 1)
    assert seal_set(shards) == seal
    assert before.items() <= tree(tmp_path).items()


def test_equal_sets_have_equal_root_hashes_in_whatever_order_they_were_made(tmp_path: Path) -> None:
    one, two = make_set(tmp_path / "one").seal(), begin(tmp_path / "two")
    for shard in (1, 0):
        commit(two, shard)
    assert one is not None
    assert seal_set(two).root_sha256 == one.root_sha256


def test_seal_refuses_missing_shards_and_names_the_first(tmp_path: Path) -> None:
    shards = begin(tmp_path, prompts_per_shard=1)
    commit(shards, 0)
    before = tree(tmp_path)
    with refused(ContractError, str(tmp_path), "2 of 3 shards", "the first is 1", "--seal-incomp"):
        seal_set(shards)
    assert tree(tmp_path) == before


def test_incomplete_seal_names_the_missing_and_removes_uncommitted_tars(tmp_path: Path) -> None:
    shards = begin(tmp_path, prompts_per_shard=1)
    commit(shards, 1)
    shards.store.create("data/000002.tar", b"left by a killed writer")
    shards.store.create("failed/000000.json", b'{"shard": 0}\n')
    seal = seal_set(shards, incomplete=True)
    assert (seal.missing, [each.shard for each in seal.shards]) == ([0, 2], [1])
    assert sorted(shards.store.list("data")) == ["data/000001.tar", "data/sizes.json"]
    assert "failed/000000.json" in seal.files
    assert list(validate_shard_set(shards)) == []


def test_sealing_sweeps_what_killed_writers_left(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    for shard in range(2):
        commit(shards, shard)
    for folder in (".", "data", "manifests", "prompts"):
        (tmp_path / folder / ".tmp-000000.tar-0f").write_bytes(b"half")
    seal_set(shards)
    assert [path for path in tree(tmp_path) if ".tmp-" in path] == []


def test_card_and_sizes_of_a_killed_incomplete_seal_do_not_stay(tmp_path: Path) -> None:
    """It counted one shard; the set was completed afterwards and sealed whole."""

    class Killed(LocalStore):
        def create(self, path: str, content: bytes | Path) -> bool:
            if path == SEAL:
                raise StoreError("killed")
            return super().create(path, content)

    right = make_set(tmp_path / "right")
    shards = begin(Killed(str(tmp_path / "set")))
    commit(shards, 0)
    with pytest.raises(StoreError):
        seal_set(shards, incomplete=True)
    shards = begin(tmp_path / "set")
    commit(shards, 1)
    seal_set(shards)
    for path in (SIZES, CARD):
        assert shards.store.read(path) == right.store.read(path)


def test_a_tar_that_is_not_as_long_as_its_manifest_says_is_not_sealed(tmp_path: Path) -> None:
    shards = begin(tmp_path, captions=CAPTIONS[:2])
    commit(shards, 0)
    tar = tmp_path / "data/000000.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    with refused(CorruptError, str(tar), "as its manifest says", "run `synth verify`"):
        seal_set(shards)
    assert shards.seal() is None
