"""BYOL: predict what a moving average of the tower gives for another crop of the same view."""

import copy
from math import cos, pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainer.losses import unit
from trainer.models.batch_norms import PositionBatchNorm
from trainer.objective_settings.byol import ByolConfig, ByolSettings
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers


class Byol(ByolSettings, ObjectiveModule):
    """Two crops of each view, no negatives, and a teacher that follows tower and projector.

    Both crops are augmented as the recipe says; the paper blurs and solarizes them differently. As
    in the paper the tower that is trained is exported, and not the teacher.

    Source: BYOL, arXiv:2006.07733, equations 1 and 2, section 3.2.
    """

    uses_ids: ClassVar[bool] = False
    has_teacher: ClassVar[bool] = True

    def __init__(self, config: ByolConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.momentum = config.momentum
        hidden, out = config.head_hidden, config.head_out
        self.projector = _Head(towers.num_features, hidden, out)
        self.predictor = _Head(out, hidden, out)
        self.teacher = _Teacher(towers.image, self.projector)

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        # The two crops of a view go through the tower in separate calls, so that a batch norm sees
        # one crop of every view at a time.
        first, second = (crops.images for crops in batch.crops)
        predictions = [
            unit(self.predictor(self.projector(towers.image(images)))) for images in (first, second)
        ]
        targets = [self.teacher(images) for images in (second, first)]
        distances = [
            2 - 2 * (prediction * target).sum(1)
            for prediction, target in zip(predictions, targets, strict=True)
        ]
        return LossTerms(total=torch.stack(distances).sum(0).mean())

    def after_step(self, towers: Towers, step: int, num_steps: int) -> None:
        momentum = 1 - (1 - self.momentum) * (cos(pi * step / num_steps) + 1) / 2
        # In the order in which `_Teacher` copied them: tower, then projector.
        followed = (*towers.image.parameters(), *self.projector.parameters())
        with torch.no_grad():
            for teacher, student in zip(self.teacher.parameters(), followed, strict=True):
                teacher.lerp_(student, 1 - momentum)


class _Head(nn.Module):
    """Linear, batch norm over all ranks, ReLU, Linear."""

    def __init__(self, num_in: int, hidden: int, out: int) -> None:
        super().__init__()
        self.first = nn.Linear(num_in, hidden, bias=False)
        self.norm = PositionBatchNorm(hidden)
        self.last = nn.Linear(hidden, out)

    def forward(self, features: Float[Tensor, "crops features"]) -> Float[Tensor, "crops out"]:
        embeddings: Tensor = self.last(torch.relu(self.norm(self.first(features), 1)))
        return embeddings


class _Teacher(nn.Module):
    """Copies of tower and projector; its batch norms use the statistics of the batch, too."""

    def __init__(self, tower: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.tower = copy.deepcopy(tower)
        self.projector = copy.deepcopy(projector)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "crops 3 height width"]) -> Float[Tensor, "crops out"]:
        return unit(self.projector(self.tower(images)))
