"""What a large set in a bucket costs in requests: an answer to a listing has 1,000 names."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from manifests.canonical import sha256_hex
from manifests.layout import RECIPE
from manifests.seal import Seal, ShardSummary
from manifests.shard_set import ShardSet
from synth import main
from tests.running import write_captions
from tests.virtual_bucket import LARGE_SET, VirtualBucket, bucket_of_many, virtual_bucket

NUM_SHARDS, PAGE_NAMES = 1_000, 10
"""As many pages as 100,000 shards have of 1,000."""
NUM_PAGES = NUM_SHARDS // PAGE_NAMES
MAX_REQUESTS = 200
URL = f"s3://sets/{LARGE_SET}"
NOISE = "benchmarks.noise:Noise"
SHARE = ("--executor", "inline", "--share", f"1/{NUM_SHARDS}")
"""Of which nothing is left to make."""


def here(*arguments: object) -> str:
    """Run `synth` in this process and return what it printed."""
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"thing number {index}" for index in range(NUM_SHARDS)]
    return write_captions(tmp_path_factory.mktemp("captions"), names)


def recipe(captions: Path) -> tuple[object, ...]:
    return (
        *("--prompts", captions, "--renderer", NOISE, "--set", "renderer.size_px=8"),
        *("--views-per-subject", 1, "--subjects-per-shard", 1),
    )


@pytest.fixture(scope="module")
def first(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The set in a folder, of which the first shard is made."""
    url = tmp_path_factory.mktemp("folder") / "set"
    here("generate", "--out", url, *recipe(captions), *SHARE)
    return ShardSet.open(str(url))


@pytest.fixture
def bucket(first: ShardSet) -> Iterator[VirtualBucket]:
    many = bucket_of_many(first, num_shards=NUM_SHARDS, num_given_up=30)
    many.page_names = PAGE_NAMES
    with virtual_bucket(many):
        yield many


def require_few(bucket: VirtualBucket, *, listings: int) -> None:
    """Few requests, and manifests listed so many times."""
    num_pages = bucket.requests.count(f"LIST {LARGE_SET}/manifests/")
    assert num_pages == listings * (NUM_PAGES - 3)
    assert len(bucket.requests) < MAX_REQUESTS, bucket.requests


def test_the_status_of_a_large_set_takes_few_requests(bucket: VirtualBucket) -> None:
    assert "970 of 1,000 committed" in here("status", URL)
    require_few(bucket, listings=1)


def test_a_resume_of_a_large_set_takes_few_requests(bucket: VirtualBucket, captions: Path) -> None:
    for words in (recipe(captions), ("--trust", NOISE)):
        bucket.requests.clear()
        output = here("generate", "--out", URL, *words, *SHARE)
        assert "left to others: 30 shards" in output
        require_few(bucket, listings=1)


def test_a_large_set_that_is_sealed_is_not_listed(bucket: VirtualBucket, first: ShardSet) -> None:
    files = [RECIPE, *first.layout.subject_files()]
    line = ShardSummary(
        **dict.fromkeys(("shard", "tar_bytes", "num_views", "num_ok"), 1),
        **dict.fromkeys(("tar_sha256", "manifest_sha256"), 64 * "0"),
    )
    seal = Seal(
        recipe_sha256=first.recipe_sha256,
        shards=[replace(line, shard=shard) for shard in range(NUM_SHARDS)],
        missing=[],
        files={path: sha256_hex(first.store.read(path)) for path in files},
    )
    stored = {"dataset.json": seal.to_bytes(), "README.md": b"-", "data/sizes.json": b"-"}
    unsealed = bucket.read
    bucket.read = lambda key: stored.get(key.removeprefix(f"{LARGE_SET}/")) or unsealed(key)
    assert "1,000 views in 1,000 shards" in here("generate", "--out", URL, "--trust", NOISE, *SHARE)
    require_few(bucket, listings=0)
    assert bucket.requests.count(f"GET {LARGE_SET}/dataset.json") == 1
