"""The same recipe gives the same bytes: inline, on Ray with 1 and 3 workers, killed and resumed."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster import cluster as cluster
from tests.running import pixel_files, start, synth, write_captions

pytestmark = pytest.mark.slow

RECIPE = [
    *("--views-per-subject", 4, "--guidance", "1,3", "--steps", 2, "--seed", 5),
    *("--subjects-per-shard", 1, "--batch-size", 4),
]


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captions(tmp_path_factory.mktemp("captions"))


@pytest.fixture(scope="module")
def reference(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    url = tmp_path_factory.mktemp("inline") / "set"
    synth("generate", "--prompts", captions, "--out", url, *RECIPE, "--executor", "inline")
    return url


def wait_for_manifests(url: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many shards are committed; the process must not end before that."""
    while len(list(url.glob("manifests/*.parquet"))) < count:
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.01)


def test_set_verifies_and_its_root_is_sealed(reference: Path) -> None:
    assert "all right: 24 views in 6 shards" in synth("verify", reference)
    assert len(pixel_files(reference)) == 12


@pytest.mark.parametrize("workers", [1, 3])
def test_number_of_ray_workers_changes_no_byte(
    workers: int, captions: Path, reference: Path, cluster: str, tmp_path: Path
) -> None:
    url = tmp_path / "set"
    generate = ("generate", "--prompts", captions, "--out", url, *RECIPE)
    synth(*generate, "--ray-address", cluster, "--workers", workers)
    assert pixel_files(url) == pixel_files(reference)


def test_driver_killed_under_ray_and_resumed_changes_no_byte(
    captions: Path, reference: Path, cluster: str, tmp_path: Path
) -> None:
    url = tmp_path / "set"
    generate = ("generate", "--prompts", captions, "--out", url, *RECIPE)
    with start(*generate, "--ray-address", cluster, "--workers", 1) as process:
        wait_for_manifests(url, 2, process)
        process.send_signal(signal.SIGKILL)
    assert not (url / "dataset.json").exists()
    synth(*generate, "--ray-address", cluster, "--workers", 1)
    assert pixel_files(url) == pixel_files(reference)
    root = json.loads((url / "dataset.json").read_text())["root_sha256"]
    assert root == json.loads((reference / "dataset.json").read_text())["root_sha256"]
    synth("verify", url)


def test_inline_killed_again_and_again_changes_no_byte(
    captions: Path, reference: Path, tmp_path: Path
) -> None:
    url = tmp_path / "set"
    generate = ("generate", "--prompts", captions, "--out", url, *RECIPE, "--executor", "inline")
    for committed in (1, 3):
        with start(*generate) as process:
            wait_for_manifests(url, committed, process)
            process.send_signal(signal.SIGKILL)
    # The set itself says what is left: neither captions nor recipe are needed to resume.
    captions.rename(captions.with_suffix(".gone"))
    synth("generate", "--out", url, "--executor", "inline")
    captions.with_suffix(".gone").rename(captions)
    assert pixel_files(url) == pixel_files(reference)
    synth("verify", url)


def test_running_again_does_nothing(captions: Path, reference: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file()}
    synth("generate", "--prompts", captions, "--out", reference, *RECIPE, "--executor", "inline")
    after = {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file()}
    assert after == before


def test_every_stored_view_can_be_rendered_again(reference: Path) -> None:
    keys = [f"{group:09d}_{view:03d}" for group in range(6) for view in range(4)]
    from manifests.shard_set import ShardSet
    from pipeline.job import Job
    from pipeline.showing import find_view
    from pipeline.worker import ShardWorker

    shards = ShardSet.open(str(reference))
    worker = ShardWorker(shards, Job.from_recipe(shards.recipe, str(reference)))
    for key in random.Random(0).sample(keys, 20):
        shard, stored = find_view(shards, key)
        (request,) = [r for r in shards.requests(shard) if r.key == key]
        (again,) = worker.render_views([request])
        assert again.row.sha256 == stored.sha256
        assert again.image == shards.image(shard, stored)
