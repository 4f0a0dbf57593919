"""A checkpoint is there whole or not at all; metrics are those of the steps that count."""

import json
from pathlib import Path

import pytest
import torch

from tests.sets import refused
from trainer.checkpointing import checkpoints, load_checkpoint, save_checkpoint
from trainer.errors import CheckpointError
from trainer.metrics import Metrics, read_metrics


def state(step: int) -> dict[str, object]:
    return {"step": step, "learner": {"a": torch.ones(3)}, "optimizer": {}}


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, state(3), keep=2)
    (path,) = checkpoints(tmp_path)
    assert load_checkpoint(path)["step"] == 3
    assert torch.equal(load_checkpoint(path)["learner"]["a"], torch.ones(3))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100, 1000):
        save_checkpoint(tmp_path, step, state(step), keep=2)
    assert [path.stem for path in checkpoints(tmp_path)] == ["step-000000100", "step-000001000"]


def test_file_of_a_killed_writer_is_no_checkpoint_and_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / ".tmp-step-000000009.pt").write_bytes(b"half")
    assert checkpoints(tmp_path) == []
    save_checkpoint(tmp_path, 10, state(10), keep=1)
    assert [path.name for path in folder.iterdir()] == ["step-000000010.pt"]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_unreadable_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "step-000000001.pt"
    path.write_bytes(content)
    with refused(CheckpointError, str(path), "remove it", "--fresh"):
        load_checkpoint(path)


def test_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.pt"
    torch.save({"state_dict": {}}, path)
    with refused(CheckpointError, str(path), "not a checkpoint of `synth train`"):
        load_checkpoint(path)


def test_metrics_after_the_resumed_step_are_dropped(tmp_path: Path) -> None:
    first = Metrics(tmp_path, step=0)
    for step in (1, 2, 3, 4):
        first.write(step, {"loss": step / 2})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # the writer was killed
    second = Metrics(tmp_path, step=2)
    second.write(3, {"loss": 9.0})
    second.close()
    assert read_metrics(tmp_path) == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 1.0},
        {"step": 3, "loss": 9.0},
    ]


def test_metrics_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, step=0)
    metrics.write(1, {"loss": 0.25})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text) == {"step": 1, "loss": 0.25}
    metrics.close()
    assert list((tmp_path / "tensorboard").iterdir())
