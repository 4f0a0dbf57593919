"""No group is in two parts, and none changes its part."""

from pathlib import Path

import pytest

from manifests.foundation.errors import ConfigError
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError
from manifests.validation import validate_shard_set
from pipeline.joining import begin_merge
from pipeline.splitting import begin_split, parse_parts
from tests.grown_sets import generate, grow, killed_after
from tests.running import pixel_files
from tests.sets import refused, tree

CAPTIONS = tuple(f"a fox on hill {number}" for number in range(12))


@pytest.fixture
def old(tmp_path: Path) -> str:
    generate(tmp_path / "old", tmp_path, CAPTIONS)
    return str(tmp_path / "old")


def split(url: str, out: Path, parts: str = "train=0.7,val=0.3", seed: int = 0) -> None:
    for _, assembly in begin_split(url, str(out), parse_parts(parts, seed)):
        for _ in assembly.run(2):
            pass
        seal_set(assembly.shards)


def texts(url: Path) -> list[str]:
    return [subject.text for subject in ShardSet.open(str(url)).all_subjects()]


def test_each_group_is_in_one_part_with_all_its_views(tmp_path: Path, old: str) -> None:
    split(old, tmp_path / "parts")
    train, val = tmp_path / "parts/train", tmp_path / "parts/val"
    assert sorted([*texts(train), *texts(val)]) == sorted(CAPTIONS)
    assert texts(val) == [f"a fox on hill {number}" for number in (1, 4, 5, 9, 11)]
    before = ShardSet.open(old)
    hashes = {
        (row.text, row.view_index): row.sha256
        for shard in before.committed()
        for row in before.manifest(shard).rows
    }
    count = 0
    for url in (train, val):
        shards = ShardSet.open(str(url))
        assert list(validate_shard_set(shards)) == []
        for shard in shards.committed():
            for row in shards.manifest(shard).rows:
                assert row.sha256 == hashes[row.text, row.view_index]
                count += 1
    assert count == len(hashes) == 48
    origin = ShardSet.open(str(val)).recipe.origin
    assert origin is not None
    assert origin.part is not None
    assert (origin.part.start, origin.part.stop) == (0.7, 1.0)
    assert "part val: 0.7 to 1 with seed 0" in (val / "README.md").read_text()


def test_a_group_stays_in_its_part_when_the_set_has_grown(tmp_path: Path, old: str) -> None:
    grow(old, tmp_path / "grown", views_per_subject=6)
    split(old, tmp_path / "before")
    split(str(tmp_path / "grown"), tmp_path / "after")
    for name in ("train", "val"):
        assert texts(tmp_path / "before" / name) == texts(tmp_path / "after" / name)


def test_parts_merge_into_a_set_of_the_same_views(tmp_path: Path, old: str) -> None:
    split(old, tmp_path / "parts")
    parts = [str(tmp_path / "parts" / name) for name in ("train", "val")]
    merged = begin_merge(parts, str(tmp_path / "whole"))
    for _ in merged.assembly.run(2):
        pass
    seal_set(merged.assembly.shards)
    whole = merged.assembly.shards
    assert list(validate_shard_set(whole)) == []
    hashes = [
        sorted(row.sha256 for shard in one.committed() for row in one.manifest(shard).rows)
        for one in (whole, ShardSet.open(old))
    ]
    assert hashes[0] == hashes[1]


def test_another_seed_gives_other_parts_and_a_part_needs_another_seed(
    tmp_path: Path, old: str
) -> None:
    split(old, tmp_path / "zero", "a=0.5,b=0.5")
    split(old, tmp_path / "one", "a=0.5,b=0.5", seed=1)
    assert texts(tmp_path / "zero/a") != texts(tmp_path / "one/a")
    with refused(ConfigError, "split with seed 0", "another --seed"):
        split(str(tmp_path / "zero/a"), tmp_path / "again", "a=0.5,b=0.5")
    split(str(tmp_path / "zero/a"), tmp_path / "again", "a=0.5,b=0.5", seed=3)


@pytest.mark.parametrize("count", range(0, 30, 5))
def test_a_killed_split_goes_on(
    tmp_path: Path, old: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    split(old, tmp_path / "undisturbed")
    killed_store = killed_after(count)
    with monkeypatch.context() as killed:
        killed.setattr("pipeline.splitting.open_store", killed_store)
        with pytest.raises(StoreError, match="killed"):
            split(old, tmp_path / "parts")
    split(old, tmp_path / "parts")
    for name in ("train", "val"):
        files = [pixel_files(tmp_path / place / name) for place in ("parts", "undisturbed")]
        assert files[0] == files[1]
    before = tree(tmp_path / "parts")
    split(old, tmp_path / "parts")
    assert tree(tmp_path / "parts") == before


def test_other_shares_at_the_place_of_a_split_are_refused(tmp_path: Path, old: str) -> None:
    from manifests.errors import IdentityError

    split(old, tmp_path / "parts", "train=0.6,val=0.4")
    with pytest.raises(IdentityError):
        split(old, tmp_path / "parts", "train=0.8,val=0.2")


def test_a_part_without_a_group_is_refused(tmp_path: Path, old: str) -> None:
    with refused(ConfigError, "none of its 12 groups falls into val", "another --seed"):
        split(old, tmp_path / "parts", "train=0.999,val=0.001")
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize(
    "text",
    ["", "train", "train=0.9", "train=0.5,train=0.5", "a=1,b=0", "a=0.5,../b=0.5", "a=x,b=0.5",
     "a=nan,b=0.5", "a=0.5,b=0.6"],
)  # fmt: skip
def test_parts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="parts"):
        parse_parts(text, 0)


def test_parts_are_ranges_of_one_line() -> None:
    parts = parse_parts("train=0.7, val=0.2, test=0.1", 5)
    assert [(part.name, part.start, part.stop, part.seed) for part in parts] == [
        ("train", 0.0, 0.7, 5),
        ("val", 0.7, 0.9, 5),
        ("test", 0.9, 1.0, 5),
    ]
