"""Checkpoints of a run: whole or not there, and nothing executable in them."""

from pathlib import Path
from typing import Any

import torch

from manifests.foundation.files import TEMPORARY_PREFIX, whole_file
from manifests.foundation.messages import one_line
from trainer.errors import CheckpointError

FOLDER = "checkpoints"


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the state after a step is kept."""
    return run / FOLDER / f"step-{step:09d}.pt"


def save_checkpoint(run: Path, step: int, state: dict[str, Any], *, keep: int) -> None:
    """Write a checkpoint under its name at once, then drop all but the newest `keep`."""
    path = checkpoint_path(run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        torch.save(state, file)
    for old in checkpoints(run)[:-keep]:
        old.unlink(missing_ok=True)
    for left in path.parent.glob(f"{TEMPORARY_PREFIX}*"):
        left.unlink(missing_ok=True)


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run / FOLDER).glob("step-*.pt"))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU.

    Raises:
        CheckpointError: It cannot be read, or holds more than tensors and plain values.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # pickle, zip and torch each have errors of their own
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({one_line(exc)}); remove it to resume from the "
            "one before, or start over with --fresh"
        ) from exc
    if not isinstance(state, dict) or not {"step", "learner", "optimizer"} <= state.keys():
        raise CheckpointError(f"{path}: not a checkpoint of `synth train`; remove it")
    return state
