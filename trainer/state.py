"""What a run has learned so far: all that a checkpoint holds."""

from pathlib import Path
from typing import Any

import torch

from manifests.canonical import hash_json
from manifests.foundation.messages import one_line
from trainer.checkpointing import checkpoints, load_checkpoint, save_checkpoint
from trainer.control import ControlChannel, collective_errors
from trainer.distributed import rank, world_size
from trainer.errors import CheckpointError
from trainer.planning import Plan
from trainer.strategies import Strategy

_ADVICE = "give another --out, or --fresh"


class TrainingState:
    """Weights, moments of the optimizer, and the groups that could not be read.

    All of it is equal on all ranks.
    """

    def __init__(
        self, plan: Plan, run: Path, strategy: Strategy, optimizer: torch.optim.Optimizer
    ) -> None:
        self.strategy = strategy
        self.learner = strategy.learner
        self.optimizer = optimizer
        self.unreadable: set[int] = set()
        """Ids of the distinct groups that could not be read."""
        self._run = run
        self._plan = plan

    def save(self, step: int, control: ControlChannel) -> None:
        """Write the state after a step. No rank returns before the checkpoint is on disk."""
        with collective_errors():
            states = self.strategy.saved(self.optimizer)
        if rank() == 0:
            document = {
                "step": step,
                "identity": hash_json(self._plan.identity),
                "unreadable": sorted(self.unreadable),
                "tower": self.learner.exported_tower(),
                "ranks": world_size(),
                "grad_cache": self._plan.config.run.grad_cache,
                **states,
            }
            run = self._plan.config.run
            keep, keep_every = run.keep_checkpoints, run.keep_every
            save_checkpoint(self._run, step, document, keep=keep, keep_every=keep_every)
        control.barrier()

    def resume(self) -> int:
        """Load the newest checkpoint, if there is one.

        Returns:
            The number of steps that are done; 0 without a checkpoint.

        Raises:
            CheckpointError: The checkpoint is damaged, or belongs to another run.
        """
        paths = checkpoints(self._run)
        if not paths:
            return 0
        path = paths[-1]
        document = load_checkpoint(path)
        if document.get("identity") != hash_json(self._plan.identity):
            raise CheckpointError(f"{path}: of another model, objective or set; {_ADVICE}")
        self._require_same_draws(path, document)
        try:
            self.strategy.load(document, self.optimizer)
            self._require_fitting_moments()
            self.unreadable = {int(group) for group in document["unreadable"]}
        except Exception as exc:  # torch raises errors of many types at a damaged document
            raise CheckpointError(
                f"{path}: does not fit the model ({one_line(exc)}); {_ADVICE}"
            ) from exc
        return _step_of(path, document, self._plan.num_steps)

    def _require_same_draws(self, path: Path, document: dict[str, Any]) -> None:
        """Refuse another `grad_cache` where it changes what towers drop.

        Other ranks draw anew in any case, and a checkpoint from before these keys says nothing.
        """
        own = self._plan.config.run.grad_cache
        begun = document.get("grad_cache", own)
        if begun != own and document.get("ranks") == world_size() and self.learner.drops():
            given = "no run.grad_cache" if begun is None else f"run.grad_cache={begun}"
            raise CheckpointError(
                f"{path}: was made with {given}, which decides what the towers drop; give the same"
            )

    def _require_fitting_moments(self) -> None:
        """Optimizers load moments of any shape without a word, and fail in the first step."""
        for parameter, moments in self.optimizer.state.items():
            for value in moments.values():
                if isinstance(value, torch.Tensor) and value.ndim:  # the count of steps has none
                    if value.shape != parameter.shape:
                        raise ValueError(
                            f"a moment of shape {list(value.shape)} for a parameter of shape "
                            f"{list(parameter.shape)}"
                        )


def _step_of(path: Path, document: dict[str, Any], num_steps: int) -> int:
    step = document["step"]
    if not isinstance(step, int) or not 0 <= step <= num_steps:
        raise CheckpointError(
            f"{path}: says that {step!r} of {num_steps} steps are done; remove it to resume from "
            "the one before, or start over with --fresh"
        )
    return step
