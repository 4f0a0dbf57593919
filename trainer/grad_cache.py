"""GradCache: the activations of a few rows in memory, and the gradient of the whole batch.

A contrastive loss looks at all rows of a batch, but only at what the tower gives for them. So the
rows pass the tower a few at a time and nothing is kept but the outputs; once the loss has their
gradients, each few rows pass it again, and its activations are held for as long as it takes to
carry their gradients back.

Source: Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
arXiv:2101.06983; done here by torch's checkpointing of each few rows.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from manifests.foundation.errors import ConfigError


class GradCached(nn.Module):
    """A tower that takes its batch a few rows at a time; its parameters are those of the tower.

    The second pass of a row draws the dropout of its first one.

    Args:
        tower: Maps each row by itself: [rows, ...] to [rows, features].
        rows: Rows that are in the tower at once.

    Raises:
        ConfigError: The tower has batch norms, which need all rows at once.
    """

    def __init__(self, tower: nn.Module, rows: int) -> None:
        super().__init__()
        if any(isinstance(module, _BatchNorm) for module in tower.modules()):
            raise ConfigError(
                f"run.grad_cache: {type(tower).__name__} has batch norms, whose statistics need "
                "the whole batch; leave it out"
            )
        self.tower = tower
        self.rows = rows

    def forward(self, batch: Tensor) -> Tensor:
        parts = torch.split(batch, self.rows)
        if not torch.is_grad_enabled():
            return torch.cat([self.tower(part) for part in parts])
        return torch.cat([checkpoint(self.tower, part, use_reentrant=False) for part in parts])
