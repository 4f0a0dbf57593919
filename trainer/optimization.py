"""AdamW and its schedule, as StableRep has them."""

from math import cos, pi
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from trainer.config import OptimizerTable


def learning_rate(step: int, *, peak: float, warmup_steps: int, num_steps: int) -> float:
    """From 0 up in a line, then half a cosine down to 0; `step` counts from 0.

    Source: util/lr_sched.py of google-research/syn-rep-learn.
    Example: learning_rate(5, peak=1.0, warmup_steps=10, num_steps=110) == 0.5.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    done = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    return peak * 0.5 * (1 + cos(pi * min(done, 1.0)))


def make_optimizer(module: nn.Module, config: OptimizerTable) -> AdamW:
    """AdamW that leaves biases, norms and scalars without decay.

    The position embedding and the class token of a ViT are decayed, as in the reference.
    """
    parameters = [each for each in module.parameters() if each.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [each for each in parameters if each.ndim > 1]},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=0.0,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """For the next step, in every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
