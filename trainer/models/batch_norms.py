"""Batch norms whose statistics are those of all ranks."""

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from trainer.collectives import batch_norm
from trainer.distributed import world_size
from trainer.errors import TrainerError


class PositionBatchNorm(nn.Module):
    """Batch norm over all ranks that has separate statistics for each position in the groups.

    The reference code runs the head once for each view, so it normalises the first view of a group
    together with the first views of the other groups. One call on [groups, positions x channels]
    computes the same. There are no running statistics, because the head is dropped after training.

    Source: StableRep, models/models_stablerep.py of google-research/syn-rep-learn.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, features: Tensor, num_positions: int) -> Tensor:
        """Normalise rows.

        Args:
            features: [groups x positions, channels]; the rows of a group are adjacent.
            num_positions: Rows of each group; 1 normalises all rows together.

        Returns:
            [groups x positions, channels].
        """
        grouped = features.reshape(len(features) // num_positions, -1)
        normal, _, _ = batch_norm(grouped, self.eps)
        return normal.reshape(features.shape) * self.weight + self.bias


class RankBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of all ranks; torch's SyncBatchNorm refuses CPUs."""

    def forward(self, features: Tensor) -> Tensor:
        return _over_ranks(self, features) if self.training else super().forward(features)


class RankBatchNormAct2d(BatchNormAct2d):  # type: ignore[misc]
    """The same for the batch norm of timm, which includes the activation that follows."""

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            evaluated: Tensor = super().forward(features)
            return evaluated
        normal: Tensor = self.act(self.drop(_over_ranks(self, features)))
        return normal


def _over_ranks(module: nn.BatchNorm2d, features: Tensor) -> Tensor:
    normal, mean, variance = batch_norm(features, module.eps)
    num_values = features.numel() // features.shape[1] * world_size()
    if module.track_running_stats:
        assert module.num_batches_tracked is not None
        assert module.running_mean is not None
        assert module.running_var is not None
        module.num_batches_tracked.add_(1)
        momentum = module.momentum
        if momentum is None:
            # As in torch: without a momentum, all batches so far are averaged.
            momentum = 1 / int(module.num_batches_tracked)
        # As in torch: a batch is normalised by its biased variance, but the unbiased one is kept.
        unbiased = variance * (num_values / max(num_values - 1, 1))
        module.running_mean.lerp_(mean.to(module.running_mean.dtype), momentum)
        module.running_var.lerp_(unbiased.to(module.running_var.dtype), momentum)
    if module.affine:
        normal = normal * module.weight.view(1, -1, 1, 1) + module.bias.view(1, -1, 1, 1)
    return normal.to(features.dtype)


_OVER_RANKS = {nn.BatchNorm2d: RankBatchNorm2d, BatchNormAct2d: RankBatchNormAct2d}


def synchronize_batch_norms(module: nn.Module) -> nn.Module:
    """Let every batch norm of a tower use the statistics of all ranks, in place.

    Parameters keep their names. With one process nothing changes.

    Raises:
        TrainerError: The tower has a batch norm of an unknown class.
    """
    if world_size() == 1:
        return module
    for name, child in module.named_modules():
        # Exact types only: a subclass may compute something else, so it is refused below.
        if type(child) in _OVER_RANKS:
            # Swapping the class keeps parameters, their names and the running statistics.
            child.__class__ = _OVER_RANKS[type(child)]
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            raise TrainerError(
                f"model: {name} is a {type(child).__name__}, whose statistics cannot be shared "
                "between ranks here; choose another tower, or train on one rank"
            )
    return module
