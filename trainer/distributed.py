"""Ranks: the process group, gathering with gradients, batch norm over all ranks.

Every rank's loss is the mean over its own anchors and `DistributedDataParallel` averages the
gradients of parameters. Both collectives below hand each rank the gradient of the *sum* of all
ranks' losses, so that average is the gradient of the mean over the whole batch: several ranks equal
one process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.errors import TrainerError

STORE_VARIABLE = "SYNTH_STORE"
"""File through which the ranks that `--nproc` starts find each other: no port is needed."""
TIMEOUT_S = 120.0


def rank() -> int:
    """Number of this process, 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the ranks that `--nproc`, torchrun or srun started; alone, do nothing."""
    world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    if world == 1:
        yield
        return
    number = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    store = os.environ.get(STORE_VARIABLE)
    if store is None and "MASTER_ADDR" not in os.environ:
        raise TrainerError(
            f"{world} ranks were started without MASTER_ADDR and MASTER_PORT; start with torchrun, "
            "or export both in the srun script"
        )
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{store}" if store else "env://",
        rank=number,
        world_size=world,
        timeout=timedelta(seconds=TIMEOUT_S),
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def local_device(name: str) -> torch.device:
    """`auto` is this rank's GPU if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        index = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
        return device
    return torch.device(name)


class Control:
    """Small sums that all ranks agree on once a step, beside the gradients and off the device."""

    def __init__(self) -> None:
        is_gloo = dist.is_initialized() and dist.get_backend() == "gloo"
        self._group: Any = (
            None if is_gloo or not dist.is_initialized() else dist.new_group(backend="gloo")
        )

    def total(self, *counts: int) -> list[int]:
        """Sum of each count over the ranks."""
        if world_size() == 1:
            return list(counts)
        values = torch.tensor(counts, dtype=torch.int64)
        dist.all_reduce(values, group=self._group)
        return [int(each) for each in values]


def gather(tensor: Tensor) -> Tensor:
    """Rows of all ranks, in the order of ranks; gradients flow back to the rank they came from."""
    if world_size() == 1:
        return tensor
    gathered: Tensor = _Gather.apply(tensor)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        whole = tensor.new_empty(world_size() * len(tensor), *tensor.shape[1:])
        dist.all_gather_into_tensor(whole, tensor.contiguous())
        return whole

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        mine = grad.new_empty(len(grad) // world_size(), *grad.shape[1:])
        dist.reduce_scatter_tensor(mine, grad.contiguous())
        return mine


def batch_norm(features: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each channel over rows, positions and ranks.

    Args:
        features: [rows, channels, ...], as many rows on every rank.

    Returns:
        Normalised features in float32; mean and biased variance, [channels], without gradient.
    """
    normal, mean, variance = _BatchNorm.apply(features.float(), eps)
    return normal, mean, variance


class _BatchNorm(torch.autograd.Function):
    """Mean and spread of each rank are merged (Chan et al., 1979); sums of squares would cancel."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        dims = [dim for dim in range(features.ndim) if dim != 1]
        variance, mean = torch.var_mean(features, dim=dims, correction=0)
        if world_size() > 1:
            mine = torch.stack([mean, variance])
            ranks = mine.new_empty(world_size() * 2, mine.shape[1])
            dist.all_gather_into_tensor(ranks, mine)
            means, variances = ranks[0::2], ranks[1::2]
            mean = means.mean(0)
            variance = (variances + (means - mean) ** 2).mean(0)
        shape = [1, -1] + [1] * (features.ndim - 2)
        scale = torch.rsqrt(variance + eps)
        normal = (features - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normal, scale)
        ctx.mark_non_differentiable(mean, variance)
        return normal, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *unused: Tensor) -> tuple[Tensor, None]:
        normal, scale = ctx.saved_tensors
        dims = [dim for dim in range(grad.ndim) if dim != 1]
        sums = torch.stack([grad.mean(dims), (grad * normal).mean(dims)])
        if world_size() > 1:
            dist.all_reduce(sums)
            sums /= world_size()
        shape = [1, -1] + [1] * (grad.ndim - 2)
        mean, along = sums[0].view(shape), sums[1].view(shape)
        return (grad - mean - normal * along) * scale.view(shape), None


class SlotBatchNorm(nn.Module):
    """Batch norm whose statistics are those of one slot of the groups, over all ranks.

    The reference code runs the head once for each view, so view 1 of every group is normalised with
    view 1 of the others. One call on [groups, slots x channels] is the same. It has no running
    statistics: the head is dropped after training.

    Source: StableRep, models/models_stablerep.py of google-research/syn-rep-learn.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, features: Tensor, num_slots: int) -> Tensor:
        """[groups x slots, channels], the slots of a group adjacent."""
        grouped = features.reshape(len(features) // num_slots, -1)
        normal, _, _ = batch_norm(grouped, self.eps)
        return normal.reshape(features.shape) * self.weight + self.bias


class RankBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of all ranks; SyncBatchNorm refuses CPUs."""

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(features)
        normal, mean, variance = batch_norm(features, self.eps)
        num_values = features.numel() // features.shape[1] * world_size()
        if self.running_mean is not None and self.running_var is not None:
            momentum = 0.1 if self.momentum is None else self.momentum
            unbiased = variance * (num_values / max(num_values - 1, 1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if self.affine:
            normal = normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normal.to(features.dtype)


def synchronize_batch_norms(module: nn.Module) -> nn.Module:
    """Give every batch norm of a tower the statistics of all ranks; parameters keep their names.

    Raises:
        TrainerError: The tower has a kind of batch norm that is not known here.
    """
    for name, child in module.named_modules():
        if not isinstance(child, nn.modules.batchnorm._BatchNorm) or isinstance(
            child, RankBatchNorm2d
        ):
            continue
        if type(child) is not nn.BatchNorm2d:
            raise TrainerError(
                f"model: {name} is a {type(child).__name__}, whose statistics cannot be shared "
                "between ranks here; choose a tower with plain BatchNorm2d, or train on one rank"
            )
        child.__class__ = RankBatchNorm2d
    return module
