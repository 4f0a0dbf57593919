"""Ranks: the process group, gathering with gradients, batch norm over all ranks.

Every rank's loss is the mean over its own anchors and `DistributedDataParallel` averages the
gradients of parameters. Both collectives below hand each rank the gradient of the *sum* of all
ranks' losses, so that average is the gradient of the mean over the whole batch: several ranks equal
one process.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError
from trainer.errors import TrainerError
from trainer.rendezvous import STORE_VARIABLE

TIMEOUT_S = 300.0
"""After so long without a word from another rank, a rank gives up."""


def rank() -> int:
    """Number of this process, 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the ranks that `--nproc`, torchrun or srun started; alone, do nothing."""
    in_step = "SLURM_STEP_ID" in os.environ  # srun; a shell of sbatch or salloc is no rank
    slurm = os.environ if in_step else {}
    world = int(os.environ.get("WORLD_SIZE", slurm.get("SLURM_NTASKS", "1")))
    if world == 1:
        yield
        return
    number = int(os.environ.get("RANK", slurm.get("SLURM_PROCID", "0")))
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
    """`auto` is this rank's GPU if there is one, else the CPU.

    Raises:
        ConfigError: No such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.is_available():
        count = torch.cuda.device_count()
        local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
        if local >= count > 1 or ("LOCAL_RANK" in os.environ and local >= count):
            raise ConfigError(f"rank {local} of this machine has no GPU, there are {count}")
        name = f"cuda:{min(local, count - 1)}"  # srun may show each rank only its own
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as exc:
        told = str(exc).partition("\n")[0]
        raise ConfigError(f"device {name!r} cannot be used here ({told})") from exc
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


class Control:
    """What all ranks agree on once a step, beside the gradients and off the device."""

    def __init__(self) -> None:
        is_gloo = dist.is_initialized() and dist.get_backend() == "gloo"
        self._group: Any = None
        if dist.is_initialized() and not is_gloo:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=TIMEOUT_S))

    def total(self, *counts: int) -> list[int]:
        """Sum of each count over the ranks. Raises TrainerError if one is gone."""
        if world_size() == 1:
            return list(counts)
        values = torch.tensor(counts, dtype=torch.int64)
        with collective_errors():
            dist.all_reduce(values, group=self._group)
        return [int(each) for each in values]

    def wait(self) -> None:
        """Until every rank is here; a sum of nothing would not wait."""
        self.total(0)

    def texts(self, mine: Sequence[str]) -> list[str]:
        """What each rank has to say, joined in the order of ranks."""
        if world_size() == 1:
            return list(mine)
        found: list[Any] = [None] * world_size()
        with collective_errors():
            dist.all_gather_object(found, list(mine), group=self._group)
        return [text for each in found for text in each]


@contextmanager
def collective_errors() -> Iterator[None]:
    """Say in one line that a collective failed; what one process alone meets is left as it is."""
    try:
        yield
    except dist.DistBackendError as exc:
        raise _lost(exc) from exc
    except RuntimeError as exc:
        if world_size() == 1 or not _GLOO.search(str(exc)):
            raise
        raise _lost(exc) from exc


_GLOO = re.compile("gloo|Connection|[Tt]imed out|closed by peer")


def _lost(exc: Exception) -> TrainerError:
    told = str(exc).partition("\n")[0][-120:]
    return TrainerError(
        f"rank {rank()}: another rank is gone or was silent for {TIMEOUT_S:.0f} s; look at its "
        f"output and run the same command again ({told})"
    )


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
        return _over_ranks(self, features) if self.training else super().forward(features)


class RankBatchNormAct2d(BatchNormAct2d):  # type: ignore[misc]
    """The same for timm's, which holds the activation that follows."""

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            found: Tensor = super().forward(features)
            return found
        normal: Tensor = self.act(self.drop(_over_ranks(self, features)))
        return normal


def _over_ranks(module: nn.BatchNorm2d, features: Tensor) -> Tensor:
    normal, mean, variance = batch_norm(features, module.eps)
    num_values = features.numel() // features.shape[1] * world_size()
    if module.running_mean is not None and module.running_var is not None:
        momentum = 0.1 if module.momentum is None else module.momentum
        unbiased = variance * (num_values / max(num_values - 1, 1))
        module.running_mean.lerp_(mean.to(module.running_mean.dtype), momentum)
        module.running_var.lerp_(unbiased.to(module.running_var.dtype), momentum)
    if module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
    if module.affine:
        normal = normal * module.weight.view(1, -1, 1, 1) + module.bias.view(1, -1, 1, 1)
    return normal.to(features.dtype)


_OVER_RANKS = {nn.BatchNorm2d: RankBatchNorm2d, BatchNormAct2d: RankBatchNormAct2d}


def synchronize_batch_norms(module: nn.Module) -> nn.Module:
    """Give every batch norm of a tower the statistics of all ranks; parameters keep their names.

    One process has them anyway, and is left as it is.

    Raises:
        TrainerError: The tower has a kind of batch norm that is not known here.
    """
    if world_size() == 1:
        return module
    for name, child in module.named_modules():
        if type(child) in _OVER_RANKS:
            child.__class__ = _OVER_RANKS[type(child)]
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            raise TrainerError(
                f"model: {name} is a {type(child).__name__}, whose statistics cannot be shared "
                "between ranks here; choose another tower, or train on one rank"
            )
    return module
