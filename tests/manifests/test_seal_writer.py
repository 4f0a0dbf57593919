import json
import tracemalloc
from pathlib import Path

import pytest

from manifests import index
from manifests.canonical import sha256_hex
from manifests.errors import ContractError, CorruptError
from manifests.layout import CARD, CROISSANT, SEAL, SIZES
from manifests.seal_writer import seal_set
from manifests.validation import validate_shard_set
from tests.sets import CAPTIONS, begin, commit, make_set, refused, tree


def test_seal_names_and_hashes_every_file(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    seal = shards.seal()
    assert seal is not None
    files = tree(tmp_path)
    tars = {f"data/00000{summary.shard}.tar": summary.tar_sha256 for summary in seal.shards}
    manifests = {
        f"manifests/00000{summary.shard}.parquet": summary.manifest_sha256
        for summary in seal.shards
    }
    hashes = {path: sha256_hex(content) for path, content in files.items() if path != SEAL}
    assert {**seal.files, **tars, **manifests} == {
        path: digest
        for path, digest in hashes.items()
        if path not in (CARD, SIZES, CROISSANT) and not path.startswith("examples/")
    }
    assert list(files) == [
        "README.md",
        "croissant.json",
        "data/000000.tar",
        "data/000001.tar",
        "data/sizes.json",
        "dataset.json",
        "examples/000000000_000.png",
        "examples/000000000_001.png",
        f"index/{seal.root_sha256[:16]}-000000.parquet",
        "manifests/000000.parquet",
        "manifests/000001.parquet",
        "recipe.json",
        "stats/000000.json",
        "stats/000001.json",
        "subjects/000000.parquet",
    ]
    assert (seal.counts["num_views"], seal.counts["num_ok"], seal.missing) == (6, 5, [])


def test_a_seal_holds_one_file_of_its_index_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a hundred million groups takes a gigabyte."""
    monkeypatch.setattr(index, "SHARDS_PER_FILE", 1)
    monkeypatch.setattr(index, "write_table", lambda table, **_: bytes(1 << 20))
    captions = [f"thing number {number}" for number in range(40)]
    shards = begin(tmp_path, captions, subjects_per_shard=1)
    for shard in range(40):
        commit(shards, shard)
    tracemalloc.start()
    assert len(seal_set(shards).index) == 40
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


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
    shards = begin(tmp_path, subjects_per_shard=1)
    commit(shards, 0)
    before = tree(tmp_path)
    with refused(ContractError, str(tmp_path), "2 of 3 shards", "the first is 1", "--seal-incomp"):
        seal_set(shards)
    assert tree(tmp_path) == before


def test_a_plan_that_was_changed_is_not_sealed(tmp_path: Path) -> None:
    shards = begin(tmp_path, subjects_per_shard=1)
    for shard in range(3):
        commit(shards, shard)
    plan = tmp_path / "subjects" / "000000.parquet"
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    with refused(CorruptError, f"{plan}: not the plan that the recipe was begun with"):
        seal_set(shards)
    assert not (tmp_path / SEAL).exists()


def test_incomplete_seal_names_missing_shards_and_commits_a_whole_tar(tmp_path: Path) -> None:
    """Stock readers read every tar, so one that a killed writer left is committed."""
    shards = begin(tmp_path, subjects_per_shard=1)
    commit(shards, 1)
    commit(shards, 2)
    (tmp_path / "manifests/000002.parquet").unlink()
    shards.add_note(0, b'{"shard": 0}\n')
    seal = seal_set(shards, incomplete=True)
    assert (seal.missing, [summary.shard for summary in seal.shards]) == ([0], [1, 2])
    assert "failed/000000-000.json" in seal.files
    assert list(validate_shard_set(shards)) == []


def test_incomplete_seal_refuses_a_broken_tar_that_no_manifest_names(tmp_path: Path) -> None:
    shards = begin(tmp_path, subjects_per_shard=1)
    commit(shards, 1)
    shards.store.create("data/000002.tar", b"not a tar")
    with refused(CorruptError, "data/000002.tar", f"`synth gc {tmp_path} --yes` removes it"):
        seal_set(shards, incomplete=True)
    assert shards.seal() is None


def test_sealing_sweeps_what_killed_writers_left(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    for shard in range(2):
        commit(shards, shard)
    for folder in (".", "data", "manifests", "subjects"):
        (tmp_path / folder / ".tmp-000000.tar-0f").write_bytes(b"half")
    seal_set(shards)
    assert [path for path in tree(tmp_path) if ".tmp-" in path] == []


@pytest.mark.parametrize("path", [SIZES, CARD, CROISSANT, "examples/000000000_001.png"])
def test_files_derived_from_the_seal_are_made_again(tmp_path: Path, path: str) -> None:
    """A sealing that was killed right after the seal leaves them out."""
    shards = make_set(tmp_path)
    content = (tmp_path / path).read_bytes()
    (tmp_path / path).unlink()
    seal_set(shards)
    assert (tmp_path / path).read_bytes() == content


def test_a_tar_that_is_not_as_long_as_its_manifest_says_is_not_sealed(tmp_path: Path) -> None:
    shards = begin(tmp_path, captions=CAPTIONS[:2])
    commit(shards, 0)
    tar = tmp_path / "data/000000.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    with refused(CorruptError, str(tar), "as its manifest says", "run `synth verify`"):
        seal_set(shards)
    assert shards.seal() is None
