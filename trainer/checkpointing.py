"""Checkpoints of a run: each is there whole or not at all, and nothing in one is executed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifests.foundation.files import TEMPORARY_PREFIX, require_regular, whole_file
from manifests.foundation.messages import one_line
from trainer.errors import CheckpointError

FOLDER = "checkpoints"


def checkpoint_path(run: Path, step: int) -> Path:
    """Path of the checkpoint with the state after a step."""
    return run / FOLDER / f"step-{step:09d}.pt"


def save_checkpoint(
    run: Path, step: int, state: dict[str, Any], *, keep: int, keep_every: int | None = None
) -> None:
    """Write a checkpoint, then remove old ones.

    Args:
        run: Folder of the run.
        step: Number of steps that are done.
        state: Tensors and plain values only.
        keep: Number of the newest checkpoints, which stay.
        keep_every: Those after a multiple of so many steps stay, too.
    """
    import torch  # only here: which checkpoints there are is asked without it

    path = checkpoint_path(run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        torch.save(state, file)
    for old in superseded(checkpoints(run), keep=keep, keep_every=keep_every):
        old.unlink(missing_ok=True)
    for abandoned in path.parent.glob(f"{TEMPORARY_PREFIX}*"):  # by a run that was killed
        abandoned.unlink(missing_ok=True)


def superseded(paths: Sequence[Path], *, keep: int, keep_every: int | None) -> list[Path]:
    """Those of some checkpoints, in any order, that need not stay; see `save_checkpoint`."""
    old = sorted(paths)[:-keep]
    return [path for path in old if keep_every is None or step_of(path) % keep_every]


def step_of(path: Path) -> int:
    """The step that a file of `checkpoint_path` is named after."""
    return int(path.stem.removeprefix("step-"))


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run / FOLDER).glob("step-*.pt"))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU.

    Raises:
        CheckpointError: It cannot be read, or it holds more than tensors and plain values.
    """
    import torch

    try:
        require_regular(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # a damaged file fails in pickle, in zip or in torch
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({one_line(exc)}); remove it to resume from the "
            "one before, or start over with --fresh"
        ) from exc
    if not isinstance(state, dict) or not {"step", "learner", "optimizer"} <= state.keys():
        raise CheckpointError(f"{path}: not a checkpoint of `synth train`; remove it")
    return state
