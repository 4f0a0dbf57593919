"""GradCache: the activations of a few rows in memory, and the gradient of the whole batch.

A contrastive loss looks at all rows of a batch, but only at what the tower gives for them. So the
rows pass the tower a few at a time and nothing is kept but the outputs; once the loss has their
gradients, each few rows pass it again, and its activations are held for as long as it takes to
carry their gradients back.

Source: Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
arXiv:2101.06983; done here by torch's checkpointing of each few rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from manifests.foundation.errors import ConfigError


class GradCached(nn.Module):
    """A tower that takes its batch a few rows at a time; its parameters are those of the tower.

    The second pass of a row draws the dropout of its first one. What is dropped differs from what a
    pass of all rows would drop, because each few rows draw by themselves; nothing else differs.

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
        (features,) = in_parts(lambda part: (self.tower(part),), self.rows, batch)
        return features


def unwrapped(tower: nn.Module) -> tuple[nn.Module, int | None]:
    """A tower itself, and how many rows may be in it at once; None for any number.

    An objective needs both that calls more of a tower than its forward pass.
    """
    return (tower.tower, tower.rows) if isinstance(tower, GradCached) else (tower, None)


def in_parts(
    function: Callable[..., tuple[Tensor, ...]], rows: int | None, *batches: Tensor
) -> tuple[Tensor, ...]:
    """Call a function with a few rows of each batch at a time, and again for the backward pass.

    Args:
        function: Maps each row by itself: tensors of [rows, ...] to tensors of [rows, ...].
        rows: Rows of a call; None for all of them, in one call and without a second one.
        batches: With equally many rows.

    Returns:
        What the function gives for all rows.
    """
    if rows is None:
        return function(*batches)
    parts = zip(*(torch.split(batch, rows) for batch in batches), strict=True)
    if torch.is_grad_enabled():
        outputs = [checkpoint(function, *part, use_reentrant=False) for part in parts]
    else:
        outputs = [function(*part) for part in parts]
    return tuple(torch.cat(output) for output in zip(*outputs, strict=True))
