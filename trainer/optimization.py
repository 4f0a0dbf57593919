"""The optimizer and its learning rate."""

from collections.abc import Iterable
from math import cos, pi
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from trainer.config import OptimizerTable


def learning_rate(
    step: int, *, peak: float, warmup_steps: int, num_steps: int, final: float = 0.0
) -> float:
    """Linear warm-up from 0 to the peak, then half a cosine down to a part of the peak.

    Args:
        step: Counted from 0.
        peak: Rate at the end of the warm-up.
        warmup_steps: Steps of the warm-up.
        num_steps: Steps of the whole run.
        final: Part of the peak that is left at the end.

    Source: util/lr_sched.py of google-research/syn-rep-learn.
    Example: learning_rate(5, peak=1.0, warmup_steps=10, num_steps=110) == 0.5.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    # The bounds serve a run that is all warm-up, and steps after the last one.
    done = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    low = final * peak
    return low + (peak - low) * 0.5 * (1 + cos(pi * min(done, 1.0)))


def weight_decay(step: int, config: OptimizerTable, *, num_steps: int) -> float:
    """Half a cosine from `weight_decay` to `final_weight_decay`, if there is one.

    Args:
        step: Counted from 0.
        config: Table [optimizer].
        num_steps: Steps of the whole run.

    Source: adjust_weight_decay of SynCLR's util/misc.py in google-research/syn-rep-learn.
    Example: from 0.04 to 0.2 it is 0.12 after half of the steps.
    """
    first, last = config.weight_decay, config.final_weight_decay
    if last is None:
        return first
    return last + (first - last) * 0.5 * (1 + cos(pi * min(step / num_steps, 1.0)))


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerTable) -> Optimizer:
    """The optimizer of those parameters that require a gradient.

    Biases, norms and scalars do not decay unless `decay_all` says so. The position embedding and
    the class token of a ViT are decayed, as in the reference. Both optimizers are fused, because a
    step is skipped by what only fused ones look at (`trainer.steps`).
    """
    trained = [p for p in parameters if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "decays": True},
        {"params": [p for p in trained if p.ndim <= 1], "decays": config.decay_all},
    ]
    if not config.decay_all:
        groups[1]["weight_decay"] = 0.0
    kept = [group for group in groups if group["params"]]
    # The rate is set before every step by `set_learning_rate`.
    decay = config.weight_decay
    if config.name == "sgd":
        return SGD(kept, lr=0.0, momentum=config.momentum, weight_decay=decay, fused=True)
    return AdamW(kept, lr=0.0, betas=config.betas, weight_decay=decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step in every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def set_weight_decay(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """Set the decay of the next step in the parameter groups that decay at all."""
    for group in optimizer.param_groups:
        if group["decays"]:
            group["weight_decay"] = decay
