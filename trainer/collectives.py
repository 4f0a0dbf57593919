"""Collectives with gradients: rows and batch statistics of all ranks.

Every rank's loss is the mean over its own rows, and `DistributedDataParallel` averages the
gradients of the parameters over the ranks. Both collectives give each rank the gradient of the
*sum* of all ranks' losses. The average over the ranks is then the gradient of the mean over the
whole batch, so several ranks learn what one process with the whole batch learns.
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

    Example: with [[1], [2]] on rank 0 and [[3], [4]] on rank 1, both have [[1], [2], [3], [4]].
    """
    if world_size() == 1:
        return tensor
    gathered: Tensor = _Gather.apply(tensor)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        all_rows = tensor.new_empty(world_size() * len(tensor), *tensor.shape[1:])
        dist.all_gather_into_tensor(all_rows, tensor.contiguous())
        return all_rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # The losses of all ranks read a row, so its gradient is a sum over ranks. The scatter hands
        # each rank the sums of its own rows only.
        own_grad = grad.new_empty(len(grad) // world_size(), *grad.shape[1:])
        dist.reduce_scatter_tensor(own_grad, grad.contiguous())
        return own_grad


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
            own_statistics = torch.stack([mean, variance])  # one collective instead of two
            statistics = own_statistics.new_empty(world_size() * 2, own_statistics.shape[1])
            dist.all_gather_into_tensor(statistics, own_statistics)
            means, variances = statistics[0::2], statistics[1::2]  # [ranks, channels]
            # Plain means over the ranks are right because every rank has equally many rows.
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
        # Each value moved the mean and the variance of all ranks. The two averages below are what
        # flows back through them.
        averages = torch.stack([grad.mean(dims), (grad * normal).mean(dims)])
        if world_size() > 1:
            dist.all_reduce(averages)
            averages /= world_size()
        shape = [1, -1] + [1] * (grad.ndim - 2)
        through_mean, through_variance = averages[0].view(shape), averages[1].view(shape)
        return (grad - through_mean - normal * through_variance) * scale.view(shape), None
