"""Strategies: how the ranks share what is trained, its gradients and its optimizer.

This file holds the protocol, its laws and the literal table. The laws, held by
`tests/conformance/test_strategies.py` for every objective:

1. Two ranks have the loss, the gradients, the norm and the steps of one rank with the whole batch,
   up to rounding.
2. What is saved holds whole tensors under the same names, whatever the strategy and the number of
   ranks; what was saved under one of them is loaded under any other one.
3. A saved state that is loaded gives the same bits again.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from manifests.foundation.plugins import Entry, load_plugin
from trainer.data.batches import LoadedBatch
from trainer.learner import Learner
from trainer.objectives import LossTerms
from trainer.planning import Plan

STRATEGIES: Mapping[str, Entry] = {
    "ddp": Entry("trainer.strategies.ddp:Ddp", "trainer"),
    "fsdp": Entry("trainer.strategies.fsdp:Fsdp", "trainer"),
}


class Strategy(Protocol):
    """A learner on all ranks. Every method is called on all of them, in the same order.

    It is built with `Strategy(learner, keeps_whole=...)` from a learner that is equal on all ranks;
    then the optimizer is made of its `parameters`.
    """

    def __init__(self, learner: Learner, *, keeps_whole: bool = False) -> None:
        """Share a learner.

        Args:
            learner: On the device of the rank.
            keeps_whole: Towers are passed again in the backward pass, a few rows at a time
                (`run.grad_cache`).
        """

    @property
    def learner(self) -> Learner:
        """The learner that is shared."""
        ...

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer of this rank is made of."""
        ...

    def loss(self, batch: LoadedBatch) -> LossTerms:
        """The loss of this rank's rows; its backward pass averages gradients over the ranks."""
        ...

    def finish_backward(self) -> None:
        """Called after the backward pass, before gradients are looked at."""
        ...

    def clipped_norm(self, largest: float | None) -> Tensor:
        """Norm of all gradients, a scalar that is equal on all ranks.

        Args:
            largest: Gradients are scaled down to it; None leaves them.
        """
        ...

    def saved(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Whole states of `learner` and `optimizer`; the first rank's is complete."""
        ...

    def load(self, document: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
        """Load what `saved` gave, which every rank has.

        Raises:
            Exception: It does not fit.
        """
        ...

    def whole(self, plan: Plan) -> Learner | None:
        """The learner with whole tensors, to be exported; None on ranks other than the first."""
        ...


def strategy_class(name: str) -> type[Strategy]:
    """The class of a strategy. Raises PluginError."""
    strategy: type[Strategy] = load_plugin("strategy", STRATEGIES, name, Strategy)
    return strategy
