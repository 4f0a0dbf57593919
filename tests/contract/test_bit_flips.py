"""A flipped bit of a sealed set is detected, whichever file it is in."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests.errors import ContractError
from manifests.manifest import parse_manifest
from manifests.shard_set import ShardSet
from manifests.validation import validate_shard_set
from tests.sets import COLUMNS, begin, commit, make_set, tree

pytestmark = pytest.mark.slow

NUM_FLIPS = 1000
FLIPS_OF_EACH_FILE = 25


def is_detected(folder: Path) -> bool:
    """Whether opening or validating the set shows a fault."""
    try:
        return bool(list(validate_shard_set(ShardSet.open(str(folder)))))
    except ContractError:
        return True


def flips(files: dict[str, bytes]) -> Iterator[tuple[str, int]]:
    """Pairs of file and bit: an equal number in each file, the others in proportion to its size."""
    rng = random.Random(20231121)
    for path, data in files.items():
        for bit in rng.sample(range(8 * len(data)), FLIPS_OF_EACH_FILE):
            yield path, bit
    num_left = NUM_FLIPS - FLIPS_OF_EACH_FILE * len(files)
    for path in rng.choices(list(files), [len(data) for data in files.values()], k=num_left):
        yield path, rng.randrange(8 * len(files[path]))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_each_of_a_thousand_flipped_bits_is_detected(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    files = tree(tmp_path)
    assert len(files) == 15
    assert not is_detected(tmp_path)
    num_detected, missed = 0, []
    for path, bit in flips(files):
        (tmp_path / path).write_bytes(flipped(files[path], bit))
        if is_detected(tmp_path):
            num_detected += 1
        else:
            missed.append((path, bit))
        (tmp_path / path).write_bytes(files[path])
    assert (num_detected, missed) == (1000, [])
    assert list(validate_shard_set(shards)) == []


@pytest.mark.parametrize("path", ["manifests/000000.parquet", "subjects/000000.parquet"])
def test_a_flipped_bit_of_a_set_without_a_seal_is_detected_or_changes_nothing(
    tmp_path: Path, path: str
) -> None:
    """No seal has the hash of a manifest yet, but its rows must agree with the plan and the tar."""
    shards = begin(tmp_path)
    commit(shards, 0)
    data = (tmp_path / path).read_bytes()
    right = shards.manifest(0)
    rng = random.Random(7)
    for bit in rng.sample(range(8 * len(data)), 200):
        (tmp_path / path).write_bytes(flipped(data, bit))
        if not is_detected(tmp_path):
            assert path.startswith("manifests/"), f"bit {bit} of the plan was missed"
            assert parse_manifest((tmp_path / path).read_bytes(), COLUMNS, where=path) == right
