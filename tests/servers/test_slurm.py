"""The scripts in `docker/slurm` on a real Slurm of two nodes."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.picture_sets import make_picture_set
from tests.running import pixel_files, start, synth, write_captions
from tests.servers.slurm import Slurm, is_installed, slurm
from trainer.metrics import read_metrics

if not is_installed():
    pytest.skip("Slurm is not installed here: make test-servers", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.servers]

SCRIPTS = ROOT / "docker" / "slurm"
CAPTIONS = [f"a fox on hill {number}" for number in range(12)]
SMALL = ("--cpus-per-task=1",)
"""Flags in the place of those of the scripts, which are for machines with eight GPUs."""
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1")


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


def until(is_so: Callable[[], bool], folder: Path, limit_s: float = 180.0) -> None:
    end = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end, logs(folder)
        time.sleep(0.05)


def until_made(url: Path, count: int) -> None:
    until(lambda: len([*url.glob("manifests/*.parquet")]) >= count, url.parent)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run)]


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
        *TWO_NODES,
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
        *TWO_NODES,
        *(SCRIPTS / "generate-ray.sbatch", "--out", url, *flags, "--workers", 2),
    )
    until_made(url, 2)
    cluster.kill_node("n2")
    try:
        assert {*cluster.wait(number)} == {"COMPLETED"}, logs(tmp_path)
    finally:
        cluster.start_node("n2")
        cluster.until_idle()
    (tmp_path / "trouble" / "slow").unlink()
    synth("generate", "--out", tmp_path / "whole", *flags, "--executor", "inline")
    assert pixel_files(url) == pixel_files(tmp_path / "whole")


def test_ray_that_is_requeued_in_the_middle_makes_the_set_that_any_other_makes(
    cluster: Slurm, job: list[object], flags: list[object], whole: dict[str, bytes], tmp_path: Path
) -> None:
    url = tmp_path / "set"
    number = cluster.submit(
        *job,
        *TWO_NODES,
        *(SCRIPTS / "generate-ray.sbatch", "--out", url, *flags, "--workers", 2),
    )
    until_made(url, 2)
    cluster.run("scontrol", "requeue", number)
    num_made = len(list(url.glob("manifests/*.parquet")))
    assert {*cluster.wait(number)} == {"COMPLETED"}, logs(tmp_path)
    assert cluster.restarts(number) == 1
    assert num_made < 12
    assert pixel_files(url) == whole
    assert "all right: 48 views in 12 shards" in synth("verify", url)


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
        *TWO_NODES,
        *(SCRIPTS / "train.sbatch", tmp_path / "whole", run, *small),
    )
    until(lambda: bool([*run.glob("checkpoints/*")]), tmp_path)
    cluster.run("scancel", "--signal=TERM", number)
    states = cluster.wait(number)
    assert {*states} == {"COMPLETED"}, logs(tmp_path)
    assert (run / "encoder.safetensors").exists(), logs(tmp_path)


def test_a_training_whose_node_is_killed_is_requeued_and_ends_with_the_same_weights(
    cluster: Slurm, job: list[object], tmp_path: Path
) -> None:
    url, run = tmp_path / "set", tmp_path / "run"
    make_picture_set(url)
    small = [
        *("--model", "synth_small_conv", "--set", "model.input_px=16", "--batch-groups", 8),
        *("--set", "objective.head_hidden=16", "--set", "objective.head_out=8", "--steps", 200),
        *("--set", "run.log_every=1", "--set", "run.checkpoint_every=20"),
    ]
    number = cluster.submit(*job, *TWO_NODES, SCRIPTS / "train.sbatch", url, run, *small)
    until(lambda: bool([*run.glob("checkpoints/*")]), tmp_path)
    cluster.kill_node("n2")
    assert len(read_metrics(run)) < 200
    with start("train", url, "--out", tmp_path / "other", *small, "--nproc", 2) as undisturbed:
        # Slurm takes the node for dead after a while, and gives the job another one, here the same.
        until(lambda: cluster.states(number) == ["PENDING"], tmp_path)
        output, _ = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, output
    cluster.start_node("n2")
    assert cluster.wait(number) == ["COMPLETED"], logs(tmp_path)
    assert cluster.restarts(number) == 1
    assert len(json.loads((run / "run.json").read_text())["sessions"]) == 2
    assert losses(run) == losses(tmp_path / "other")
    encoder = "encoder.safetensors"
    assert (run / encoder).read_bytes() == (tmp_path / "other" / encoder).read_bytes()
