"""One step: forward, backward and, if the gradients are finite, the optimizer."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data.batches import LoadedBatch
from trainer.data.draws import generator
from trainer.distributed import rank
from trainer.errors import DivergedError
from trainer.optimization import (
    learning_rate,
    set_learning_rate,
    set_weight_decay,
    weight_decay,
)
from trainer.planning import Plan
from trainer.state import TrainingState

MAX_SKIPPED_IN_A_ROW = 5
"""The run is given up after so many steps in a row whose gradients are not finite."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The numbers of one step on this rank."""

    losses: dict[str, Tensor]
    """Scalars on the device: the loss, and the parts that the objective names."""
    rate: float
    grad_norm: Tensor
    """Scalar on the device, of all ranks together; not finite if the step was skipped."""


class Stepper:
    """Takes steps. All ranks take or skip the same ones, since they have equal gradients.

    The host never waits for the device within a step: a step is skipped on the device, and that it
    was skipped is noticed one step later.

    Args:
        plan: The run to take steps of.
        state: What the steps change.
        device: Where this rank computes.
    """

    def __init__(self, plan: Plan, state: TrainingState, device: torch.device) -> None:
        self._plan = plan
        self._state = state
        self._device = device
        self._num_skipped = 0
        self._unread: tuple[int, Callable[[], float]] | None = None
        """The last step, counted from 1, and its norm as it will be known."""

    def take(self, step: int, batch: LoadedBatch) -> StepResult:
        """Learn from one batch.

        Args:
            step: Counted from 0.
            batch: This rank's part.

        Raises:
            DivergedError: Gradients were not finite for MAX_SKIPPED_IN_A_ROW steps before this one.
        """
        plan, state = self._plan, self._state
        rate = learning_rate(
            step,
            peak=plan.peak_rate,
            warmup_steps=plan.warmup_steps,
            num_steps=plan.num_steps,
            final=plan.config.schedule.final,
        )
        set_learning_rate(state.optimizer, rate)
        decay = weight_decay(step, plan.config.optimizer, num_steps=plan.num_steps)
        set_weight_decay(state.optimizer, decay)
        # Dropout and stochastic depth draw from torch's global generator. Seeding it with the step
        # makes a resumed run draw the same.
        seed = generator("model", plan.config.run.seed, step, rank()).integers(2**62)
        torch.manual_seed(int(seed))
        # The forward pass moves the running statistics of batch norms, which no optimizer undoes.
        buffers = [(buffer, buffer.clone()) for buffer in state.learner.buffers()]
        state.optimizer.zero_grad(set_to_none=True)  # no old gradients beside the activations
        terms = state.strategy.loss(batch.to(self._device))
        terms.total.backward()  # type: ignore[no-untyped-call]
        state.strategy.finish_backward()
        # Before gradients are clipped; it is needed without clipping, too.
        norm = state.strategy.clipped_norm(plan.config.optimizer.clip_norm)
        skipped = ~norm.isfinite()
        # A fused optimizer changes nothing where this number, which `torch.amp.GradScaler` sets
        # elsewhere, is 1.
        vars(state.optimizer)["found_inf"] = skipped.float()
        state.optimizer.step()
        for buffer, before in buffers:
            buffer.copy_(torch.where(skipped, before, buffer))
        state.learner.after_step(step, plan.num_steps)
        self.settle()
        self._unread = step + 1, _read_later(norm)
        parts = {name: part.detach() for name, part in terms.parts.items()}
        losses = {"loss": terms.total.detach(), **parts}
        return StepResult(losses=losses, rate=rate, grad_norm=norm)

    def settle(self) -> None:
        """Notice whether the last step was skipped.

        Raises:
            DivergedError: It was the last of MAX_SKIPPED_IN_A_ROW.
        """
        if self._unread is not None:
            finished, norm = self._unread
            self._unread = None
            self._count_skipped(finished, norm())

    def _count_skipped(self, finished: int, norm: float) -> None:
        self._num_skipped = 0 if math.isfinite(norm) else self._num_skipped + 1
        if self._num_skipped and rank() == 0:
            _log.warning("step %d: gradients are not finite, it was skipped", finished)
        if self._num_skipped == MAX_SKIPPED_IN_A_ROW:
            raise DivergedError(
                f"gradients were not finite for {self._num_skipped} steps in a row, the last is "
                f"{finished}; lower optimizer.lr_per_256, warm up longer, or train in fp32, with "
                "--fresh"
            )


def _read_later(value: Tensor) -> Callable[[], float]:
    """A scalar of the device as a function that gives it; only the call waits for the device."""
    if value.device.type != "cuda":
        return lambda: float(value)
    copy = torch.empty((), pin_memory=True).copy_(value, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def read() -> float:
        copied.synchronize()
        return float(copy)

    return read
