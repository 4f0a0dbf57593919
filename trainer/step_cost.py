"""What a step takes, from shapes alone: operations and memory, before anything is trained.

The step is the trainer's own, taken with tensors that have a shape and no values (torch's
FakeTensorMode). So nothing is computed, and any device may be planned for on any machine. What a
kernel needs for itself while it runs is not counted, nor is what an allocator wastes. What fsdp
divides among ranks is taken off by arithmetic.
"""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from trainer.data.batches import LoadedBatch
from trainer.data.crops import BOX_FIELDS, draw_crop
from trainer.data.draws import generator
from trainer.learner import Learner, make_learner
from trainer.optimization import make_optimizer
from trainer.planning import Plan
from trainer.state import TrainingState
from trainer.steps import Stepper
from trainer.strategies.ddp import Ddp
from trainer.strategies.fsdp import blocks_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Of one rank."""

    tower_parameters: int
    """Of the image tower, which is what is exported."""
    parameters: int
    """Of all that is trained or follows: towers, heads, teacher."""
    image_multiply_adds: int
    """Of one image of `model.input_px` through the tower, forwards."""
    step_multiply_adds: int
    """Of a whole step of this rank, backward passes and recomputed ones included."""
    state_bytes: int
    """Parameters, their gradients, moments of the optimizer and buffers: what is always there."""
    peak_bytes: int
    """The most that is held at once in a step."""

    def divided(self, shared: "Shared") -> "StepCost":
        """The same under `run.strategy = "fsdp"`, by arithmetic and not from a step."""
        state_bytes = shared.buffer_bytes + (self.state_bytes - shared.buffer_bytes) // shared.world
        # Without gradients: a block that has computed its own hands them on at once.
        return replace(
            self,
            state_bytes=state_bytes,
            peak_bytes=self.peak_bytes - self.state_bytes + state_bytes + shared.whole_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What `trainer.strategies.fsdp` divides among ranks, and what is whole in a step even so."""

    world: int
    buffer_bytes: int
    whole_bytes: int
    """Tensors that are whole at once, with their gradients: all outside of blocks, and the largest
    block twice, because the next one is gathered while one computes; all tensors with GradCache."""


def _shared(learner: Learner, *, world: int, keeps_whole: bool) -> Shared:
    def num_bytes(tensors: Iterable[Tensor]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    all_bytes = num_bytes(learner.parameters())
    blocks = [num_bytes(block.parameters()) for block in blocks_of(learner)]
    outside, largest = all_bytes - sum(blocks), max(blocks, default=0)
    whole = all_bytes if keeps_whole else outside + 2 * largest
    return Shared(
        world=world,
        buffer_bytes=num_bytes(learner.buffers()),
        whole_bytes=whole + outside + 2 * largest,
    )


def step_cost(plan: Plan, *, world: int) -> StepCost:
    """Take one step of a plan without computing anything.

    Args:
        plan: The run.
        world: Ranks that share its batch.

    Raises:
        ConfigError: The recipe does not fit the tower.
    """
    with torch.device("meta"):
        learner = make_learner(plan)
    # Fake tensors are of the CPU, because torch cannot carry gradients back on a GPU that is not
    # there. The layers save the same for the backward pass on either.
    with FakeTensorMode(allow_non_fake_inputs=True), Tally() as tally:
        learner = learner.to_empty(device="cpu").train()
        optimizer = make_optimizer(learner.parameters(), plan.config.optimizer)
        _allocate_moments(learner, optimizer)
        state_bytes = tally.live_bytes
        batch = blank_batch(plan, plan.demand.num_groups // world)
        state = TrainingState(plan, Path(), Ddp(learner), optimizer)
        Stepper(plan, state, torch.device("cpu")).take(0, batch)
        peak_bytes, step_multiply_adds = tally.peak_bytes, tally.multiply_adds
        px = plan.spec.input_px
        with torch.no_grad():
            learner.encoder.eval()(torch.zeros(1, 3, px, px))
    cost = StepCost(
        tower_parameters=_num_parameters(learner.encoder),
        parameters=_num_parameters(learner),
        image_multiply_adds=tally.multiply_adds - step_multiply_adds,
        step_multiply_adds=step_multiply_adds,
        state_bytes=state_bytes,
        peak_bytes=peak_bytes,
    )
    run = plan.config.run
    if run.strategy == "ddp" or world == 1:
        return cost
    keeps_whole = run.grad_cache is not None
    return cost.divided(_shared(learner, world=world, keeps_whole=keeps_whole))


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _allocate_moments(learner: Learner, optimizer: torch.optim.Optimizer) -> None:
    """Bring the optimizer into the state that it has after a step, with gradients in place."""
    for parameter in learner.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def blank_batch(plan: Plan, num_groups: int) -> LoadedBatch:
    """A batch in the shapes of a plan, of black images whose colours are drawn as for real ones."""
    views = num_groups * plan.demand.views_per_group
    colours = []
    for crops in plan.crops:
        rows = range(views * crops.count)
        draws = [draw_crop(generator("cost", row), crops.augment).colours for row in rows]
        colours.append(np.stack(draws))
    counts_px = [(views * crops.count, crops.input_px) for crops in plan.crops]
    return LoadedBatch(
        step=0,
        images=tuple(torch.zeros(n, 3, px, px, dtype=torch.uint8) for n, px in counts_px),
        colours=tuple(colours),
        boxes=tuple(torch.zeros(rows, len(BOX_FIELDS)) for rows, _ in counts_px),
        ids=torch.zeros(num_groups, dtype=torch.int64),
        labels=torch.zeros(num_groups, dtype=torch.int64),
        captions=["a caption"] * num_groups,
        latents=torch.zeros(views, getattr(plan.objective_config, "latent_dim", 0)),
        views=np.zeros((num_groups, plan.demand.views_per_group), dtype=np.int64),
        replaced=[],
    )


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that exist while it is on, and the operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self.multiply_adds = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        if count := flop_registry.get(operation.overloadpacket):
            self.multiply_adds += count(*args, **(kwargs or {}), out_val=result) // 2
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, num_bytes = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._release, key, num_bytes)

    def _release(self, key: int, num_bytes: int) -> None:
        self._known.discard(key)
        self.live_bytes -= num_bytes
