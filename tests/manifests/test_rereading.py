"""A bit that flips on the way from a bucket is not taken for a broken file."""

from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from manifests.rereading import read_alike
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError
from manifests.storage.local import LocalStore
from manifests.validation import validate_shard_set
from tests.fault_proxy import Faults, faulty_bucket
from tests.sets import begin, commit, make_set


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with faulty_bucket(tmp_path_factory.mktemp("s3")) as faults:
        yield faults


def first_readings() -> Callable[[str, str], bool]:
    """Whether a request is the first that reads this object."""
    seen: set[str] = set()

    def is_first(method: str, path: str) -> bool:
        is_read = method == "GET" and "list-type" not in path
        is_hit = is_read and path not in seen
        seen.add(path)
        return is_hit

    return is_first


def test_a_set_is_right_if_its_second_readings_are(faults: Faults) -> None:
    made = make_set("s3://sets/right")
    row = made.manifest(0).rows[0]
    image = made.image(0, row)
    faults.plan("flip", first_readings(), 1_000)
    shards = ShardSet.open("s3://sets/right")
    assert shards.image(0, row) == image
    assert list(validate_shard_set(shards)) == []
    assert faults.times < 1_000 - 8, "hardly a bit was flipped"


def test_a_seal_does_not_keep_a_flipped_bit(faults: Faults, tmp_path: Path) -> None:
    for url in ("s3://sets/sealed", str(tmp_path / "set")):
        shards = begin(url)
        for shard in range(2):
            commit(shards, shard)
    seal = seal_set(shards)
    faults.plan("flip", first_readings(), 1_000)
    assert seal_set(ShardSet.open("s3://sets/sealed")).to_bytes() == seal.to_bytes()


def test_a_broken_image_is_called_so(faults: Faults) -> None:
    shards = make_set("s3://sets/broken")
    row = shards.manifest(0).rows[0]
    faults.plan("flip", lambda method, path: method == "GET" and path.endswith(".tar"), 1_000)
    problems = list(validate_shard_set(shards))
    assert {problem.where for problem in problems} == {"data/000000.tar", "data/000001.tar"}
    with pytest.raises(Exception, match=f"{row.key}: not the image that was committed"):
        shards.image(0, row)
    faults.times = 0


class Unsteady(LocalStore):
    """Gives these answers in turn."""

    def __init__(self, folder: Path, *answers: bytes) -> None:
        super().__init__(str(folder))
        self._answers = cycle(answers)

    def read(self, path: str, *, max_bytes: int = 0) -> bytes:
        return next(self._answers)


def test_bytes_without_a_hash_are_those_of_two_equal_readings(tmp_path: Path) -> None:
    assert read_alike(Unsteady(tmp_path, b"a", b"b", b"a"), "stats") == b"a"
    with pytest.raises(StoreError, match="stats: gives other bytes at every reading"):
        read_alike(Unsteady(tmp_path, b"a", b"b", b"c", b"d"), "stats")
