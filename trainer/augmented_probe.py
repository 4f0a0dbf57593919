"""Linear heads that learn from other crops in every epoch, one head for each learning rate.

No function here receives a test label.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from timm.optim import Lars
from torch import Tensor, nn
from torch.nn import functional as F

_BATCH_NORM_EPS = 1e-6
_MOMENTUM = 0.9
_TRUST = 0.001
"""Trust coefficient of LARS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentedRecipe:
    """How heads learn; the defaults are those of StableRep's main_linear.py."""

    epochs: int = 90
    warmup_epochs: int = 0
    """Epochs in which the rate rises from 0, before it falls along half a cosine."""
    batch_size: int = 1024
    """Largest batch; the images are divided into batches of nearly equal size."""
    optimizer: Literal["sgd", "lars"] = "sgd"
    """Both with momentum 0.9 and without weight decay."""
    batch_norm: bool = True
    """Whether a batch norm without weights comes before the heads."""
    seed: int = 0


class LearningHeads:
    """Linear heads on the same features; each learns as if it were alone.

    All heads start from the same weights, drawn from N(0, 0.01), and see the same batches. Batch
    norm has the statistics of the batch while it learns, and their running means afterwards.

    Source: StableRep, main_linear.py (SGD); MAE, main_linprobe.py and util/lars.py (LARS, which
    scales the weights' gradients and leaves those of the biases).
    """

    def __init__(
        self,
        *,
        num_dims: int,
        num_classes: int,
        num_images: int,
        rates: Sequence[float],
        recipe: AugmentedRecipe,
        device: torch.device | str,
    ) -> None:
        """Args:
        num_images: Of an epoch.
        rates: For a batch of 256.
        device: Where to compute.
        """
        self._recipe, self._device, self._num_classes = recipe, device, num_classes
        batch = min(recipe.batch_size, num_images)
        # At least two images in each: batch norm needs a spread.
        self._num_batches = max(1, min(math.ceil(num_images / batch), num_images // 2))
        self._peaks = [rate * batch / 256 for rate in rates]
        # On the CPU: the same on every device.
        self._generator = torch.Generator().manual_seed(recipe.seed)
        initial = 0.01 * torch.randn(num_dims, num_classes, generator=self._generator)
        self._weights: list[Tensor] = [nn.Parameter(initial.clone().to(device)) for _ in rates]
        self._biases: list[Tensor] = [
            nn.Parameter(torch.zeros(num_classes, device=device)) for _ in rates
        ]
        self._norm = nn.BatchNorm1d(num_dims, affine=False, eps=_BATCH_NORM_EPS).to(device)
        groups = [
            {"params": [parameter], "lr": 0.0, "always_adapt": is_weight}
            for is_weight, parameters in ((True, self._weights), (False, self._biases))
            for parameter in parameters
        ]
        self._optimizer: torch.optim.Optimizer
        if recipe.optimizer == "lars":
            self._optimizer = Lars(groups, momentum=_MOMENTUM, trust_coeff=_TRUST)
        else:
            self._optimizer = torch.optim.SGD(groups, momentum=_MOMENTUM)
        self._step = 0

    def learn(
        self, values: Float[Tensor, "images embed_dim"], labels: Int[Tensor, " images"]
    ) -> None:
        """One epoch, in an order of its own.

        Args:
            values: Features of this epoch's crops, on any device.
            labels: Of the same images in each epoch.
        """
        order = torch.randperm(len(labels), generator=self._generator)
        self._norm.train()
        for rows in order.tensor_split(self._num_batches):
            batch = values[rows.to(values.device)].to(self._device).float()
            truth = labels[rows.to(labels.device)].to(self._device)
            factor = self._factor()
            for group, peak in zip(self._optimizer.param_groups, self._peaks * 2, strict=True):
                group["lr"] = peak * factor
            with torch.enable_grad():
                logits = self._logits(batch).transpose(1, 2)  # [images, classes, heads]
                # The sum over heads of mean losses: no head's gradient holds one of another head.
                truths = truth[:, None].expand(-1, len(self._peaks))
                loss = F.cross_entropy(logits, truths, reduction="sum") / len(truth)
                self._optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._step += 1
        self._norm.eval()

    def logits(
        self, values: Float[Tensor, "images embed_dim"]
    ) -> Float[Tensor, "images heads classes"]:
        """Scores of every head, before the softmax."""
        self._norm.eval()
        with torch.no_grad():
            return self._logits(values.to(self._device).float())

    def _logits(self, values: Tensor) -> Tensor:
        standard = self._norm(values) if self._recipe.batch_norm else values
        flat = standard @ torch.cat(self._weights, dim=1) + torch.cat(self._biases)
        return flat.view(len(values), len(self._weights), self._num_classes)

    def _factor(self) -> float:
        """What part of its peak a rate is in this step."""
        warmup = self._recipe.warmup_epochs * self._num_batches
        if self._step < warmup:
            return self._step / warmup
        done = (self._step - warmup) / max(1, self._recipe.epochs * self._num_batches - warmup)
        return 0.5 * (1 + math.cos(math.pi * done))
