from pathlib import Path

import pytest

from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.validation import validate_shard_set
from tests.sets import begin, commit, make_set, tree


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return begin(tmp_path / "set")


@pytest.fixture
def sealed(tmp_path: Path) -> ShardSet:
    return make_set(tmp_path / "set")


def test_a_whole_set_has_no_problem_sealed_or_not(shards: ShardSet) -> None:
    assert list(validate_shard_set(shards)) == []
    for shard in (0, 1):
        commit(shards, shard)
        assert list(validate_shard_set(shards)) == []
    seal_set(shards)
    assert list(validate_shard_set(shards)) == []


def test_on_shard_is_called_after_each_shard(sealed: ShardSet) -> None:
    done: list[int] = []
    assert list(validate_shard_set(sealed, on_shard=done.append)) == []
    assert done == [0, 1]


def test_all_problems_are_reported_and_not_only_the_first(sealed: ShardSet) -> None:
    for path in ("README.md", "stats/000000.json", "manifests/000000.parquet", "data/000001.tar"):
        Path(sealed.store.url, path).write_bytes(b"changed")
    assert {problem.where for problem in validate_shard_set(sealed)} == {
        "README.md",
        "stats/000000.json",
        "manifests/000000.parquet",
        "data/000001.tar",
    }


def test_validation_writes_nothing(sealed: ShardSet) -> None:
    before = tree(sealed.store.url)
    assert list(validate_shard_set(sealed)) == []
    assert tree(sealed.store.url) == before
