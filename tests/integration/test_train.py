"""`synth train`: real processes that are really killed, on one rank and on two.

The runs that they are compared with run in this process, because starting an interpreter with torch
takes seconds.
"""

import json
import os
import random
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path

import fsspec
import pytest
import torch
from click.testing import CliRunner

from synth import main
from tests.object_store import s3_clients_of, s3_server
from tests.picture_sets import make_picture_set
from tests.running import start, synth
from trainer.data.shard_sets import ShardSetSource
from trainer.data.sources import Demand, Group, GroupStream
from trainer.metrics import read_metrics

pytestmark = pytest.mark.slow

OPTIONS = (
    *("--model", "synth_small_conv", "--set", "model.input_px=16", "--batch-groups", "8"),
    *("--set", "objective.head_hidden=16", "--set", "objective.head_out=8", "--steps", "24"),
    *("--views-per-group", "3", "--set", "run.log_every=1", "--set", "run.checkpoint_every=5"),
    *("--set", "optimizer.lr_per_256=0.005"),
    # A shallow tower: the steps of a deep one amplify the rounding in which ranks differ.
    *("--set", "model.args.widths=[32,64]", "--set", "model.args.depth=0"),
)


class Stuck:
    """A sealed set whose views do not come any more at the third step."""

    def __init__(self, place: str) -> None:
        self._set = ShardSetSource(place)
        self.url, self.root = self._set.url, self._set.root

    def stream(self, demand: Demand) -> GroupStream:
        stream = self._set.stream(demand)
        groups = stream.groups

        def stuck(step: int, *, rank: int, world: int) -> list[Group]:
            if step == 3:
                sys.stdout.write("a view that never comes\n")
                sys.stdout.flush()
                time.sleep(300)
            return groups(step, rank=rank, world=world)

        vars(stream)["groups"] = stuck
        return stream


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sets") / "set"
    make_picture_set(folder)
    return str(folder)


@pytest.fixture(scope="module")
def undisturbed(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    output = train_here(url, "--out", run, *OPTIONS)
    assert "24 steps of 24 images" in output
    return run


def train_here(*arguments: object) -> str:
    """`synth train` to its end in this process; what it printed."""
    result = CliRunner().invoke(main, ["train", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run)]


def weights(run: Path) -> bytes:
    return (run / "encoder.safetensors").read_bytes()


def kill_after(
    run: Path, step: int, *arguments: object, kind: int, whole_group: bool = False
) -> int:
    """Start a run, and send a signal once it has logged a step; the exit status."""
    process = start("train", *arguments, "--out", run, *OPTIONS, new_session=whole_group)
    try:
        deadline = time.monotonic() + 90
        while len(read_metrics(run)) < step and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if whole_group:
            os.killpg(process.pid, kind)
        else:
            process.send_signal(kind)
        output, _ = process.communicate(timeout=60)
        if kind == signal.SIGINT:
            assert "stopped by Ctrl-C, with a checkpoint" in output
    finally:
        process.kill()
    return process.returncode


def test_finished_run_holds_its_facts_metrics_and_newest_checkpoints(
    url: str, undisturbed: Path
) -> None:
    document = json.loads((undisturbed / "run.json").read_text())
    seal = json.loads(Path(url, "dataset.json").read_text())
    assert document["identity"]["set"]["root_sha256"] == seal["root_sha256"]
    assert document["identity"]["schedule"] == {"steps": 24, "warmup_steps": 0, "final": 0.0}
    (session,) = document["sessions"]
    assert session["versions"]["torch"] == version("torch")
    assert session["hardware"]["device"]
    lines = read_metrics(undisturbed)
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert {"loss", "lr", "grad_norm", "images_per_s", "data_wait", "epoch"} <= lines[0].keys()
    assert list((undisturbed / "tensorboard").glob("events.*"))
    assert lines[-1]["loss"] < lines[0]["loss"]
    names = sorted(path.name for path in (undisturbed / "checkpoints").iterdir())
    assert names == ["step-000000020.pt", "step-000000024.pt"]


def test_timm_loads_the_encoder_strictly(undisturbed: Path) -> None:
    import timm
    from safetensors.torch import load_file

    import trainer.models.small_conv  # noqa: F401 (registers the tower of the demo)

    spec = json.loads((undisturbed / "encoder.json").read_text())["spec"]
    model = timm.create_model(spec["model"], num_classes=0, **spec["args"])
    model.load_state_dict(load_file(undisturbed / "encoder.safetensors"), strict=True)


def test_vit_of_timm_is_trained_and_loaded_strictly(url: str, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import load_file

    args = "{img_size=16,patch_size=4,embed_dim=24,depth=1,num_heads=2}"
    options = [option.replace("synth_small_conv", "vit_tiny_patch16_224") for option in OPTIONS]
    train_here(url, "--out", tmp_path, *options, "--set", f"model.args={args}", "--steps", "2")
    model = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=0, img_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=2,
    )  # fmt: skip
    model.load_state_dict(load_file(tmp_path / "encoder.safetensors"), strict=True)


def test_finished_run_is_left_as_it_is(url: str, undisturbed: Path) -> None:
    before = weights(undisturbed), losses(undisturbed)
    train_here(url, "--out", undisturbed, *OPTIONS)
    assert (weights(undisturbed), losses(undisturbed)) == before


def test_killed_run_resumes_to_the_same_bits(url: str, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    step = random.randrange(6, 20)
    assert kill_after(run, step, url, kind=signal.SIGKILL) == -signal.SIGKILL
    assert not (run / "encoder.safetensors").exists()
    train_here(url, "--out", run, *OPTIONS)
    assert losses(run) == losses(undisturbed), f"killed after step {step}"
    assert weights(run) == weights(undisturbed)
    assert len(json.loads((run / "run.json").read_text())["sessions"]) == 2


def test_sigterm_writes_a_checkpoint_and_the_run_goes_on(
    url: str, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert kill_after(run, 7, url, kind=signal.SIGTERM) == 143
    done = len(read_metrics(run))
    state = torch.load(sorted((run / "checkpoints").iterdir())[-1], weights_only=True)
    assert state["step"] == done
    train_here(url, "--out", run, *OPTIONS)
    assert losses(run) == losses(undisturbed)
    assert weights(run) == weights(undisturbed)


def test_ctrl_c_writes_a_checkpoint_and_the_run_goes_on(
    url: str, undisturbed: Path, tmp_path: Path
) -> None:
    """On two ranks, as a terminal sends it: to all processes at once."""
    run = tmp_path / "run"
    two = ("--nproc", "2")
    assert kill_after(run, 4, url, *two, kind=signal.SIGINT, whole_group=True) == 130
    state = torch.load(sorted((run / "checkpoints").iterdir())[-1], weights_only=True)
    assert state["step"] == len(read_metrics(run)) < 24
    train_here(url, "--out", run, *OPTIONS)
    assert len(losses(run)) == 24


def test_second_ctrl_c_ends_a_step_that_takes_too_long(url: str, tmp_path: Path) -> None:
    """The first one waits for the end of a step, which a slow view keeps from coming."""
    arguments = ("train", f"{__name__}:Stuck:{url}", "--out", tmp_path / "run", *OPTIONS)
    with start(*arguments) as process:
        assert process.stdout is not None
        text = ""
        for words in ("a view that never comes", "Ctrl-C again ends at once"):
            while words not in text:
                text += process.stdout.readline()
                assert process.poll() is None, text
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT


def test_sigterm_to_all_processes_at_once_writes_a_checkpoint_too(
    url: str, undisturbed: Path, tmp_path: Path
) -> None:
    """As `timeout`, Slurm and most supervisors send it: loader workers get it as well."""
    run = tmp_path / "run"
    status = kill_after(run, 4, url, "--workers", "2", kind=signal.SIGTERM, whole_group=True)
    assert status == 143
    train_here(url, "--out", run, *OPTIONS)
    assert losses(run) == losses(undisturbed)


def test_bad_view_that_one_rank_reads_ends_all_and_is_named(tmp_path: Path) -> None:
    shards = make_picture_set(tmp_path / "set")
    row = shards.manifest(2).rows[4]
    tar = tmp_path / "set" / shards.layout.tar(2)
    data = bytearray(tar.read_bytes())
    data[row.offset + 30] ^= 1
    tar.write_bytes(data)
    output = synth(
        "train", tmp_path / "set", "--out", tmp_path / "run", *OPTIONS, "--views-per-group", "4",
        "--nproc", "2", status=1,
    )  # fmt: skip
    lines = [line for line in output.splitlines() if "Error" in line]
    assert len(lines) in (1, 2)  # of rank 0, and of the rank that read it if it ended first
    assert all("data/000002.tar" in line and row.key in line for line in lines)


def test_loader_workers_read_from_a_bucket(url: str, undisturbed: Path, tmp_path: Path) -> None:
    """The client of a remote store does not survive a fork; each worker opens its own."""
    with s3_server(tmp_path) as address, s3_clients_of(address):
        fsspec.filesystem("s3").mkdir("sets")
        synth("publish", url, "s3://sets/one")
        synth("train", "s3://sets/one", "--out", tmp_path / "run", *OPTIONS, "--workers", "1")
    assert losses(tmp_path / "run") == losses(undisturbed)


def test_two_ranks_have_the_losses_of_one_and_resume_on_one(
    url: str, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    status = kill_after(run, 8, url, "--nproc", "2", kind=signal.SIGTERM)
    assert status == 143
    done = len(read_metrics(run))
    assert 8 <= done < 24
    train_here(url, "--out", run, *OPTIONS)
    expected = losses(undisturbed)
    resumed = losses(run)
    assert len(resumed) == 24
    # The first steps differ by rounding alone; each step then amplifies what the last one left.
    assert resumed[:5] == pytest.approx(expected[:5], abs=1e-5)
    assert resumed == pytest.approx(expected, abs=2e-2)


def test_two_ranks_that_share_tensors_have_the_losses_of_one_and_resume_on_one(
    url: str, undisturbed: Path, tmp_path: Path
) -> None:
    run, fsdp = tmp_path / "run", ("--set", "run.strategy=fsdp")
    assert kill_after(run, 8, url, "--nproc", "2", *fsdp, kind=signal.SIGTERM) == 143
    synth("train", url, "--out", run, *OPTIONS, *fsdp, "--nproc", "2", "--set", "run.keep_every=20")
    expected = losses(undisturbed)
    assert losses(run)[:5] == pytest.approx(expected[:5], abs=1e-5)
    assert losses(run) == pytest.approx(expected, abs=2e-2)
    from trainer.models.encoder import load_encoder

    load_encoder(run)  # strict, and by the hash beside it
    (run / "checkpoints" / "step-000000024.pt").unlink()
    train_here(url, "--out", run, *OPTIONS)  # from step 20, with whole tensors on one rank
    assert losses(run) == pytest.approx(expected, abs=2e-2)


def test_two_ranks_train_to_the_end_under_torchrun(
    url: str, undisturbed: Path, tmp_path: Path
) -> None:
    import subprocess
    import sys

    from tests.conftest import ROOT
    from tests.running import environment

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--local-addr=127.0.0.1", "-m", "synth", "train", url, "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, *OPTIONS],
        cwd=ROOT,
        env=environment() | {"GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses(tmp_path)[:5] == pytest.approx(losses(undisturbed)[:5], abs=1e-5)
    assert len(losses(tmp_path)) == 24


def test_fresh_starts_over(url: str, undisturbed: Path, tmp_path: Path) -> None:
    train_here(url, "--out", tmp_path, *OPTIONS, "--steps", "3")
    train_here(url, "--out", tmp_path, *OPTIONS, "--seed", "5", "--fresh")
    assert losses(tmp_path) != losses(undisturbed)
    assert len(losses(tmp_path)) == 24


def test_loader_workers_change_nothing(url: str, undisturbed: Path, tmp_path: Path) -> None:
    train_here(url, "--out", tmp_path, *OPTIONS, "--workers", "2")
    assert losses(tmp_path) == losses(undisturbed)
    assert weights(tmp_path) == weights(undisturbed)


def test_bf16_trains(url: str, undisturbed: Path, tmp_path: Path) -> None:
    train_here(url, "--out", tmp_path, *OPTIONS, "--set", "run.precision=bf16")
    assert losses(tmp_path) != losses(undisturbed)
    assert losses(tmp_path)[0] == pytest.approx(losses(undisturbed)[0], abs=0.1)


def test_auto_is_the_precision_that_the_run_was_begun_with(url: str, tmp_path: Path) -> None:
    """Fp32 on a CPU, which `run.json` says; one that was begun in bf16 stays in it."""
    for asked, recorded in (("auto", "fp32"), ("bf16", "bf16")):
        command = ("train", url, "--out", tmp_path / asked, *OPTIONS, "--steps", "1")
        synth(*command, "--set", f"run.precision={asked}")
        synth(*command)
        document = json.loads((tmp_path / asked / "run.json").read_text())
        assert document["identity"]["run"]["precision"] == recorded
        assert len(document["sessions"]) == 1  # it was at its end, by an equal plan
    assert "run.precision" in synth(*command, "--set", "run.precision=fp32", status=1)
    synth(*command, "--fresh")
    document = json.loads((tmp_path / "bf16" / "run.json").read_text())
    assert document["identity"]["run"]["precision"] == "fp32"


def test_no_rank_is_left_behind_when_one_dies(url: str, tmp_path: Path) -> None:
    process = start("train", url, "--out", tmp_path, *OPTIONS, "--nproc", "2", "--steps", "100000")
    try:
        deadline = time.monotonic() + 90
        while len(read_metrics(tmp_path)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
        os.kill(int(children[1]), signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode != 0
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    finally:
        process.kill()
