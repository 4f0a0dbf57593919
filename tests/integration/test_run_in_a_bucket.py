"""`synth train --out s3://...`: real processes, a server on loopback, kills and faults."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.fault_proxy import Faults, faulty_bucket
from tests.picture_sets import make_picture_set
from tests.running import start, synth

pytestmark = pytest.mark.slow

OPTIONS = (
    *("--model", "vit_tiny_patch16_224", "--set", "model.input_px=16", "--batch-groups", "8"),
    *("--set", "model.args={img_size=16,patch_size=4,embed_dim=24,depth=1,num_heads=2}"),
    *("--set", "objective.head_hidden=16", "--set", "objective.head_out=8", "--steps", "40"),
    *("--views-per-group", "3", "--set", "run.log_every=1", "--set", "run.checkpoint_every=5"),
)
LONG = ("--steps", "100000")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sets") / "set"
    make_picture_set(folder)
    return str(folder)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Faults]:
    with faulty_bucket(tmp_path) as faults:
        yield faults


def listed(folder: str) -> list[str]:
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    return sorted(name.rpartition("/")[2] for name in fs.ls(folder, refresh=True))


def content(name: str) -> bytes:
    data: bytes = fsspec.filesystem("s3").cat_file(name)
    return data


def lines(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(f"{run}/metrics.jsonl").splitlines()]


def wait_for_checkpoint(process: Any, run: str) -> None:
    deadline = time.monotonic() + 90
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    while not fs.exists(f"{run}/checkpoints"):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        fs.invalidate_cache()
        time.sleep(0.05)


def test_a_run_that_is_killed_goes_on_from_the_bucket_to_the_same_encoder(
    url: str, bucket: Faults, tmp_path: Path
) -> None:
    with start("train", url, "--out", "s3://sets/one", *OPTIONS) as process:
        wait_for_checkpoint(process, "sets/one")
        process.kill()
    output = synth("train", url, "--out", "s3://sets/one", *OPTIONS)
    assert "s3://sets/one: 40 steps" in output
    synth("train", url, "--out", tmp_path / "undisturbed", *OPTIONS)
    expected = (tmp_path / "undisturbed" / "encoder.safetensors").read_bytes()
    assert content("sets/one/encoder.safetensors") == expected
    assert [line["step"] for line in lines("sets/one")] == list(range(1, 41))
    assert listed("sets/one/checkpoints")[-1] == "step-000000040.pt"
    assert listed("sets/one/tensorboard")

    sessions = json.loads(content("sets/one/run.json"))["sessions"]
    assert "40 steps" in synth("train", url, "--out", "s3://sets/one", *OPTIONS)
    assert json.loads(content("sets/one/run.json"))["sessions"] == sessions  # nothing was started

    synth("export", "s3://sets/one", "--as", "onnx", "--out", tmp_path / "onnx")
    assert list((tmp_path / "onnx").glob("*.onnx"))


def test_two_ranks_share_a_run_in_a_bucket(url: str, bucket: Faults) -> None:
    two = ("--nproc", "2")
    with start("train", url, "--out", "s3://sets/run", *OPTIONS, *LONG, *two) as process:
        wait_for_checkpoint(process, "sets/run")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "with a checkpoint; the same command resumes it" in output
    last = listed("sets/run/checkpoints")[-1]
    assert len(lines("sets/run")) == int(last.removeprefix("step-").removesuffix(".pt"))
    with start("train", url, "--out", "s3://sets/run", *OPTIONS, *LONG, *two) as process:
        deadline = time.monotonic() + 90
        while listed("sets/run/checkpoints")[-1] == last:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    steps = [line["step"] for line in lines("sets/run")]
    assert steps == list(range(1, len(steps) + 1))


def test_a_passing_fault_of_the_storage_costs_nothing(url: str, bucket: Faults) -> None:
    bucket.plan("slow-down", lambda method, path: method == "PUT" and "checkpoints" in path, 1)
    output = synth("train", url, "--out", "s3://sets/run", *OPTIONS)
    assert "40 steps" in output
    assert bucket.num_broken == 1
    assert listed("sets/run/checkpoints")[-1] == "step-000000040.pt"


def test_a_storage_that_does_not_answer_ends_the_run_in_one_line(
    url: str, bucket: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps go on beside the upload until it is given up; what is stored stays."""
    stored: set[str] = set()

    def is_another_checkpoint(method: str, path: str) -> bool:
        """The first one is answered. Which comes next depends on how fast steps are taken."""
        name = re.search(r"step-\d+\.pt", path)
        if method != "PUT" or name is None:
            return False
        if not stored:
            stored.add(name[0])
        return name[0] not in stored

    monkeypatch.setenv("SYNTH_STORAGE_SILENCE_S", "2")
    bucket.plan("silence", is_another_checkpoint, 1000)
    output = synth("train", url, "--out", "s3://sets/run", *OPTIONS, *LONG, status=1)
    (line,) = [line for line in output.splitlines() if line.startswith("Error")]
    assert re.search(r"s3://sets/run/checkpoints/step-\d+\.pt: the storage stopped answering", line)
    assert listed("sets/run/checkpoints") == [*stored]
