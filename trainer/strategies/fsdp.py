"""Every rank has a part of each tensor, and of its moments; a block is whole while it computes.

torch's `fully_shard`, block by block: what remains, such as heads, embeddings and norms, is whole
during a step. Numbers are those of `ddp`: tensors are gathered and gradients averaged in float32,
and autocast does under it what it does without.

Source: Zhao et al., PyTorch FSDP, arXiv 2304.11277; Rajbhandari et al., ZeRO, arXiv 1910.02054.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from trainer.data.batches import LoadedBatch
from trainer.distributed import rank, world_size
from trainer.learner import Learner, make_learner
from trainer.objectives import LossTerms
from trainer.planning import Plan

_BLOCKS = ("blocks", "resblocks")
"""What timm and open_clip call the lists of their blocks."""


class Fsdp:
    """torch's fully_shard. See `trainer.strategies`.

    With `keeps_whole` all tensors are whole from the first use in a step to its end: a tower that
    is passed again within the backward pass would find them divided. What is saved then is memory
    of gradients and moments alone. One rank has nothing to share.
    """

    def __init__(self, learner: Learner, *, keeps_whole: bool = False) -> None:
        self._root = _Root(learner)
        # A tensor without dimensions cannot be divided; every rank has these.
        self._scalars = [p for p in learner.parameters() if p.ndim == 0]
        self._keeps_whole = keeps_whole
        self._parts: list[tuple[nn.Parameter, nn.Parameter]] = []
        """Tensors that are divided, and this rank's parts of them, in the same memory."""
        if world_size() == 1:
            return
        device = next(learner.parameters()).device
        mesh = init_device_mesh(device.type, (world_size(),))
        policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
        for block in blocks_of(learner):
            fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=not keeps_whole)
        fully_shard(self._root, mesh=mesh, mp_policy=policy, ignored_params=set(self._scalars))
        if keeps_whole:
            for module in self._shared():
                module.set_reshard_after_backward(False, recurse=False)
        for parameter in learner.parameters():
            if isinstance(parameter, DTensor):
                divided: Any = parameter.detach()
                own = nn.Parameter(divided.to_local(), parameter.requires_grad)
                self._parts.append((parameter, own))

    @property
    def learner(self) -> Learner:
        """See Strategy."""
        return self._root.learner

    def parameters(self) -> list[nn.Parameter]:
        """See Strategy. Plain tensors: not every fused optimizer takes divided ones."""
        own = {id(parameter): part for parameter, part in self._parts}
        return [own.get(id(parameter), parameter) for parameter in self.learner.parameters()]

    def _shared(self) -> list[FSDPModule]:
        return [module for module in self._root.modules() if isinstance(module, FSDPModule)]

    def loss(self, batch: LoadedBatch) -> LossTerms:
        """See Strategy."""
        self._root.zero_grad(set_to_none=True)  # of which the optimizer knows this rank's parts
        total, parts = self._root(batch)
        return LossTerms(total=total, parts=parts)

    def finish_backward(self) -> None:
        """See Strategy."""
        if world_size() == 1:
            return
        for scalar in self._scalars:
            if scalar.grad is not None:
                dist.all_reduce(scalar.grad)
                scalar.grad /= world_size()
        if self._keeps_whole:
            for module in self._shared():
                module.reshard()
        for parameter, own in self._parts:
            divided = parameter.grad
            own.grad = divided.to_local() if isinstance(divided, DTensor) else None

    def clipped_norm(self, largest: float | None) -> Tensor:
        """See Strategy."""
        parts = [own.grad for _, own in self._parts if own.grad is not None]
        own_parts = {id(parameter) for parameter, _ in self._parts}
        others = [
            p.grad
            for p in self.learner.parameters()
            if p.grad is not None and id(p) not in own_parts
        ]
        norm = nn.utils.get_total_norm(others)
        if parts:
            squares = nn.utils.get_total_norm(parts).square()
            dist.all_reduce(squares)
            norm = (squares + norm.square()).sqrt()
        if largest is not None:
            scale = (largest / (norm + 1e-6)).clamp(max=1.0)  # as torch clips
            for gradient in parts + others:
                gradient.mul_(scale)
        return norm

    def saved(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """See Strategy."""
        learner, moments = self.learner.state_dict(), optimizer.state_dict()
        divided = self._divided(optimizer)
        states = {
            number: {
                name: _whole(_dtensor(value, divided[number])) for name, value in state.items()
            }
            for number, state in moments["state"].items()
        }
        return {
            "learner": {name: _whole(value) for name, value in learner.items()},
            "optimizer": {**moments, "state": states},
        }

    def _divided(self, optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
        """The parameters of an optimizer, by their numbers in its state."""
        whole = {id(own): parameter for parameter, own in self._parts}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        return [whole.get(id(parameter), parameter) for parameter in parameters]

    def load(self, document: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
        """See Strategy."""
        own = self.learner.state_dict()
        tensors = {name: _like(value, own.get(name)) for name, value in document["learner"].items()}
        self.learner.load_state_dict(tensors, strict=True)
        saved = document["optimizer"]
        divided = self._divided(optimizer)
        states = {
            number: {name: _own(_like(value, divided[number])) for name, value in state.items()}
            for number, state in saved["state"].items()
        }
        optimizer.load_state_dict({**saved, "state": states})

    def whole(self, plan: Plan) -> Learner | None:
        """See Strategy."""
        tensors = {name: _whole(value) for name, value in self.learner.state_dict().items()}
        if rank():
            return None
        learner = make_learner(plan)
        learner.load_state_dict(tensors, strict=True)
        return learner


class _Root(nn.Module):
    """The learner, with its loss as plain tensors: hooks find no others in what it gives."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, batch: LoadedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        terms = self.learner(batch)
        return terms.total, dict(terms.parts)


def blocks_of(learner: nn.Module) -> list[nn.Module]:
    """The blocks of all towers: image, text and teacher, as far as they have some."""
    lists = [
        child
        for module in learner.modules()
        for name, child in module.named_children()
        if name in _BLOCKS and isinstance(child, nn.Sequential | nn.ModuleList)
    ]
    return [block for blocks in lists for block in blocks]


def _dtensor(value: Any, own: Any) -> Any:
    """A part of a moment as a divided tensor, if its parameter is one."""
    if not isinstance(own, DTensor) or not isinstance(value, Tensor) or not value.ndim:
        return value  # the count of steps has no dimensions
    return DTensor.from_local(
        value, own.device_mesh, own.placements, shape=own.shape, stride=own.stride()
    )


def _own(value: Any) -> Any:
    return value.to_local() if isinstance(value, DTensor) else value


def _whole(value: Any) -> Any:
    """A tensor with the parts of all ranks, on the CPU where the first rank needs it."""
    if not isinstance(value, DTensor):
        return value
    tensor = value.full_tensor()
    return tensor.to("meta" if rank() else "cpu")


def _like(value: Any, own: Any) -> Any:
    """A whole tensor divided as one of ours; what cannot be is left to the loader to refuse."""
    if not isinstance(own, DTensor) or not isinstance(value, Tensor) or value.shape != own.shape:
        return value
    # Every rank takes its part of what it has read; nothing is sent.
    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
