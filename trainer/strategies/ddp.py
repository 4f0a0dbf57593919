"""Every rank has all of the learner, and gradients are averaged. One rank alone has it, too."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.data.batches import LoadedBatch
from trainer.distributed import rank, world_size
from trainer.learner import Learner
from trainer.objectives import LossTerms
from trainer.planning import Plan


class Ddp:
    """torch's DistributedDataParallel. See `trainer.strategies`."""

    def __init__(self, learner: Learner, *, keeps_whole: bool = False) -> None:
        self._learner = learner
        self._module: nn.Module | None = None

    @property
    def learner(self) -> Learner:
        """See Strategy."""
        return self._learner

    def parameters(self) -> list[nn.Parameter]:
        """See Strategy."""
        return list(self._learner.parameters())

    def loss(self, batch: LoadedBatch) -> LossTerms:
        """See Strategy."""
        if self._module is None:  # made late, so that it sends to all what a checkpoint held
            self._module = self._shared()
        terms: LossTerms = self._module(batch)
        return terms

    def _shared(self) -> nn.Module:
        if world_size() == 1:
            return self.learner
        # Buffers need no broadcast: batch norms use the statistics of all ranks, so their running
        # statistics are equal everywhere. The name is an old one since torch 2.15, and torch 2.11
        # does not have the new one.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            return DistributedDataParallel(
                self.learner, broadcast_buffers=False, gradient_as_bucket_view=True
            )

    def finish_backward(self) -> None:
        """See Strategy."""

    def clipped_norm(self, largest: float | None) -> Tensor:
        """See Strategy. Gradients were averaged, so the norm is equal on all ranks."""
        parameters = [p for p in self.learner.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if largest is not None:
            nn.utils.clip_grads_with_norm_(parameters, largest, norm)
        return norm

    def saved(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """See Strategy."""
        return {"learner": self.learner.state_dict(), "optimizer": optimizer.state_dict()}

    def load(self, document: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
        """See Strategy."""
        self.learner.load_state_dict(document["learner"], strict=True)
        optimizer.load_state_dict(document["optimizer"])

    def whole(self, plan: Plan) -> Learner | None:
        """See Strategy."""
        return None if rank() else self.learner
