"""The scripts in `docker/slurm` on a real Slurm of two nodes."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.running import pixel_files, synth, write_captions
from tests.servers.slurm import Slurm, is_installed, slurm

if not is_installed():
    pytest.skip("Slurm is not installed here: make test-servers", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.servers]

SCRIPTS = ROOT / "docker" / "slurm"
CAPTIONS = [f"a fox on hill {number}" for number in range(12)]
SMALL = ("--cpus-per-task=1",)
"""Flags in the place of those of the scripts, which are for machines with eight GPUs."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Flags of `sbatch` for a job that logs into this folder, and finds `synth`."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return [f"--chdir={tmp_path}", *SMALL]


@pytest.fixture
def flags(tmp_path: Path) -> list[object]:
    """Flags of `synth generate` for a set of twelve shards, half a second or more each."""
    (tmp_path / "trouble").mkdir()
    (tmp_path / "trouble" / "slow").write_text("\n".join(CAPTIONS))
    return [
        *("--prompts", write_captions(tmp_path, CAPTIONS), "--renderer", "tests.renderers:Faulty"),
        *("--set", f"renderer.trouble={tmp_path / 'trouble'}", "--views-per-subject", 4),
        *("--subjects-per-shard", 1),
    ]


@pytest.fixture
def whole(tmp_path: Path, flags: list[object]) -> dict[str, bytes]:
    synth("generate", "--out", tmp_path / "whole", *flags, "--executor", "inline")
    return pixel_files(tmp_path / "whole")


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("synth-*.log")))


def until_made(url: Path, count: int, limit_s: float = 120.0) -> None:
    end = time.monotonic() + limit_s
    while len(list(url.glob("manifests/*.parquet"))) < count:
        assert time.monotonic() < end, logs(url.parent)
        time.sleep(0.05)


def test_an_array_makes_a_set(
    cluster: Slurm, job: list[object], flags: list[object], whole: dict[str, bytes], tmp_path: Path
) -> None:
    url = tmp_path / "set"
    script = (SCRIPTS / "generate.sbatch", url, *flags)
    number = cluster.submit(*job, "--array=1-3", *script)
    assert {*cluster.wait(number)} == {"COMPLETED"}, logs(tmp_path)
    assert pixel_files(url) == whole
    assert "48 views in 12 shards" in logs(tmp_path)


def test_a_requeued_task_and_a_node_that_stops_answering_cost_nothing(
    cluster: Slurm, job: list[object], flags: list[object], whole: dict[str, bytes], tmp_path: Path
) -> None:
    url = tmp_path / "set"
    script = (SCRIPTS / "generate.sbatch", url, *flags)
    number = cluster.submit(*job, "--array=1-2", *script)
    until_made(url, 2)
    cluster.run("scontrol", "requeue", f"{number}_1")
    until_made(url, 4)
    cluster.kill_node("n2")
    cluster.kill_jobs("n2")
    time.sleep(1)
    cluster.start_node("n2")
    cluster.wait(number)
    # Whatever a lost node left, the same line again makes it.
    again = cluster.submit(*job, "--array=1-2", *script)
    assert {*cluster.wait(again)} == {"COMPLETED"}, logs(tmp_path)
    assert pixel_files(url) == whole
    assert "all right: 48 views in 12 shards" in synth("verify", url)


def test_ray_on_two_nodes_makes_a_set(
    cluster: Slurm, job: list[object], flags: list[object], whole: dict[str, bytes], tmp_path: Path
) -> None:
    url = tmp_path / "set"
    number = cluster.submit(
        *job,
        *("--nodes=2", "--gpus-per-node=1"),
        *(SCRIPTS / "generate-ray.sbatch", "--out", url, *flags, "--workers", 2),
    )
    assert {*cluster.wait(number)} == {"COMPLETED"}, logs(tmp_path)
    assert pixel_files(url) == whole


def test_ray_goes_on_without_a_node_that_was_lost(
    cluster: Slurm, job: list[object], flags: list[object], tmp_path: Path
) -> None:
    url = tmp_path / "set"
    flags += ["--set", "renderer.batch_size=1"]  # half a minute of work
    number = cluster.submit(
        *job,
        *("--nodes=2", "--gpus-per-node=1"),
        *(SCRIPTS / "generate-ray.sbatch", "--out", url, *flags, "--workers", 2),
    )
    until_made(url, 2)
    cluster.kill_node("n2")
    cluster.kill_jobs("n2")
    try:
        assert {*cluster.wait(number)} == {"COMPLETED"}, logs(tmp_path)
    finally:
        cluster.start_node("n2")
        cluster.until_idle()
    (tmp_path / "trouble" / "slow").unlink()
    synth("generate", "--out", tmp_path / "whole", *flags, "--executor", "inline")
    assert pixel_files(url) == pixel_files(tmp_path / "whole")


def test_two_ranks_train_and_a_signal_before_the_time_limit_requeues_them(
    cluster: Slurm, job: list[object], whole: dict[str, bytes], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    small = [
        *("--recipe", "demo-simclr", "--set", "batch.groups=4", "--set", "schedule.steps=40"),
        *("--set", "schedule.warmup_steps=0", "--set", "run.checkpoint_every=10"),
    ]
    number = cluster.submit(
        *job,
        *("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1"),
        *(SCRIPTS / "train.sbatch", tmp_path / "whole", run, *small),
    )
    end = time.monotonic() + 180
    while not list(run.glob("checkpoints/*")):
        assert time.monotonic() < end, logs(tmp_path)
        time.sleep(0.2)
    cluster.run("scancel", "--signal=TERM", number)
    states = cluster.wait(number)
    assert {*states} == {"COMPLETED"}, logs(tmp_path)
    assert (run / "encoder.safetensors").exists(), logs(tmp_path)
