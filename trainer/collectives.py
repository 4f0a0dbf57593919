"""Collectives with gradients: rows and batch statistics of all ranks.

Every rank's loss is the mean over its own rows, and `DistributedDataParallel` averages the
gradients of parameters. Both collectives hand each rank the gradient of the *sum* of all ranks'
losses, so that average is the gradient of the mean over the whole batch: several ranks equal one
process.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.distributed import world_size


def gather(tensor: Tensor) -> Tensor:
    """Rows of all ranks, in the order of ranks; gradients flow back to the rank of each row.

    Args:
        tensor: [rows, ...], with the same shape on every rank.

    Returns:
        [ranks x rows, ...].
    """
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
        features: [rows, channels, ...], with the same shape on every rank.
        eps: Added to the variance.

    Returns:
        Normalised features in float32; mean and biased variance, [channels], without gradient.
    """
    normal, mean, variance = _BatchNorm.apply(features.float(), eps)
    return normal, mean, variance


class _BatchNorm(torch.autograd.Function):
    """Merges mean and variance of each rank (Chan et al., 1979); sums of squares would cancel."""

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
