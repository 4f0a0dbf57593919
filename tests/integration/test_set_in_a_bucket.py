"""A set is made in a bucket: the bytes of the same set in a folder, through kills and faults."""

import random
import re
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from manifests.storage import open_store
from pipeline.calibration import REQUESTS_PER_SHARD
from tests.fault_proxy import FAULTS, Faults, faulty_bucket
from tests.running import pixel_files, start, synth, write_captions

pytestmark = pytest.mark.slow

NUMBERS = count()
RECIPE = [
    *("--views-per-subject", 4, "--guidance", "1,3", "--steps", 2, "--seed", 5),
    *("--subjects-per-shard", 1, "--batch-size", 4, "--executor", "inline"),
]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """A bucket `sets` behind a proxy, for all clients of this process and of those it starts."""
    with (
        faulty_bucket(tmp_path_factory.mktemp("s3")) as faults,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SYNTH_STORAGE_SILENCE_S", "5")
        patch.setenv("SYNTH_STORAGE_PATIENCE_S", "120")
        yield faults


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captions(tmp_path_factory.mktemp("captions"))


@pytest.fixture(scope="module")
def reference(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    url = tmp_path_factory.mktemp("folder") / "set"
    synth("generate", "--prompts", captions, "--out", url, *RECIPE)
    return pixel_files(url)


@pytest.fixture
def url(faults: Faults) -> str:
    faults.plan("", lambda *_: False, 0)
    return f"s3://sets/{next(NUMBERS)}/set"


def files_of(url: str) -> dict[str, bytes]:
    """Tars and manifests in the bucket by path."""
    store = open_store(url)
    paths = [path for folder in ("data", "manifests") for path in store.list(folder)]
    return {path: store.read(path) for path in paths if not path.endswith(".json")}


def test_a_set_in_a_bucket_is_that_of_a_folder_and_every_command_reads_it(
    captions: Path, reference: dict[str, bytes], url: str, tmp_path: Path
) -> None:
    generate = ("generate", "--prompts", captions, "--out", url, *RECIPE)
    assert "24 views in 6 shards" in synth(*generate)
    assert files_of(url) == reference
    assert "all right: 24 views in 6 shards" in synth("verify", url)
    assert "sealed" in synth("status", url)
    assert "sealed" in synth("status", url, "--watch")
    synth("report", url, "--out", tmp_path / "report.html")
    assert "equal" in synth("show", url, "000000000_000", "--render")
    # Without a word about captions the set itself says what is left of it: nothing.
    assert "24 views in 6 shards" in synth("generate", "--out", url, "--executor", "inline")
    synth("publish", url, tmp_path / "copy")
    assert pixel_files(tmp_path / "copy") == reference


def test_drivers_that_are_killed_lose_nothing(
    captions: Path, reference: dict[str, bytes], url: str, faults: Faults
) -> None:
    generate = ("generate", "--prompts", captions, "--out", url, *RECIPE)
    rng = random.Random(4)
    for _ in range(3):
        process = start(*generate)
        # By the number of requests and not by time: at another file in each round.
        limit = len(faults.requests) + rng.randint(8, 40)
        while len(faults.requests) < limit and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    synth(*generate)
    assert files_of(url) == reference
    assert "all right" in synth("verify", url)


def test_two_drivers_make_one_set(captions: Path, reference: dict[str, bytes], url: str) -> None:
    generate = ("generate", "--prompts", captions, "--out", url, *RECIPE)
    drivers = [start(*generate) for _ in range(2)]
    outputs = [driver.communicate()[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    assert files_of(url) == reference
    assert "all right" in synth("verify", url)


def test_a_storage_that_breaks_one_request_in_ten_changes_no_byte(
    captions: Path, reference: dict[str, bytes], url: str, faults: Faults
) -> None:
    rng = random.Random(6)

    def is_hit(method: str, path: str) -> bool:
        faults.fault = rng.choice(FAULTS)
        return rng.random() < 0.1 and not (faults.fault == "flip" and method == "PUT")

    faults.plan("error", is_hit, 1_000)
    output = synth("generate", "--prompts", captions, "--out", url, *RECIPE)
    num_broken = 1_000 - faults.times
    faults.times = 0
    assert num_broken >= 5, output
    assert files_of(url) == reference
    assert "all right" in synth("verify", url)


def test_a_storage_that_stays_silent_ends_the_job_with_one_line(
    captions: Path, url: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTH_STORAGE_SILENCE_S", "1")
    monkeypatch.setenv("SYNTH_STORAGE_PATIENCE_S", "4")
    faults.plan("silence", lambda method, path: method == "PUT" and path.endswith(".tar"), 1_000)
    output = synth("generate", "--prompts", captions, "--out", url, *RECIPE, status=1)
    faults.times = 0
    assert re.search(
        rf"Error: {url}/data/00000\d\.tar: the storage stopped answering; run the same command",
        output,
    )
    assert "Traceback" not in output
    assert "24 views in 6 shards" in synth("generate", "--out", url, "--executor", "inline")


def test_a_bucket_that_does_not_exist_is_refused_before_anything_is_rendered(
    captions: Path, faults: Faults
) -> None:
    output = synth("generate", "--prompts", captions, "--out", "s3://none/set", *RECIPE, status=1)
    assert "s3://none/set" in output
    assert "there is no such bucket" in output


def test_a_shard_takes_a_fixed_number_of_requests_and_no_listing(
    url: str, faults: Faults, tmp_path: Path
) -> None:
    """Buckets bill by the request, and a listing takes longer the larger a set is."""
    counts = []
    for num_shards in (6, 12):
        captions = write_captions(tmp_path, [f"thing {index}" for index in range(num_shards)])
        before = len(faults.requests)
        synth(
            *("generate", "--prompts", captions, "--out", f"{url}-{num_shards}"),
            *("--renderer", "benchmarks.noise:Noise", "--views-per-subject", 2),
            *("--subjects-per-shard", 1, "--executor", "inline"),
        )
        made = faults.requests[before:]
        counts.append((len(made), sum("list-type" in request for request in made)))
    (few, few_listings), (many, many_listings) = counts
    assert few_listings == many_listings
    # Its part of the plan is read; tar, statistics and manifest are created; the seal reads the
    # statistics, twice, and the manifest.
    assert many - few == 6 * REQUESTS_PER_SHARD
