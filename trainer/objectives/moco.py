"""MoCo v2: crops of a view against a queue of what earlier steps saw."""

import copy
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.collectives import gather
from trainer.errors import DataError
from trainer.losses import exact_products, unit
from trainer.models.head import PlainHead
from trainer.objective_settings.moco import MocoConfig, MocoSettings
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers


class Moco(MocoSettings, ObjectiveModule):
    """One crop of a view finds the teacher's embedding of the other among those of a queue.

    The queue holds the teacher's embeddings of the last steps, of all ranks, and begins with random
    ones. Batch norms see the batch of all ranks, which the authors' code prevents by shuffling.
    Source: MoCo, arXiv:1911.05722, algorithm 1; MoCo v2, arXiv:2003.04297; Shaders21k,
    arXiv:2211.16412, trains its large models with it.
    """

    uses_ids: ClassVar[bool] = False
    has_teacher: ClassVar[bool] = True
    queue: Tensor
    place: Tensor

    def __init__(self, config: MocoConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.temperature, self.momentum = config.temperature, config.momentum
        self.head = PlainHead(towers.num_features, config.head_hidden, config.head_out)
        self.teacher = nn.Sequential(copy.deepcopy(towers.image), copy.deepcopy(self.head))
        self.teacher.requires_grad_(False)
        self.register_buffer("queue", unit(torch.randn(config.queue, config.head_out)))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        first, second = (crops.images for crops in batch.crops)
        queries = unit(self.head(towers.image(first)))
        with torch.no_grad():
            keys = unit(self.teacher(second))
        with exact_products(queries.device):
            positive = (queries * keys).sum(1, keepdim=True)
            # A copy, because the queue changes before its gradient is computed.
            negatives = queries @ self.queue.clone().T
            logits = torch.cat([positive, negatives], dim=1) / self.temperature
            loss = F.cross_entropy(logits, torch.zeros_like(batch.ids))
        self._remember(gather(keys))
        return LossTerms(total=loss)

    @torch.no_grad()
    def _remember(self, keys: Float[Tensor, "rows embed_dim"]) -> None:
        if len(keys) > len(self.queue):
            raise DataError(
                f"moco: a step has {len(keys):,} views and the queue {len(self.queue):,} places; "
                "give a larger objective.queue"
            )
        # In place, as a step whose gradients are not finite brings back what buffers were.
        places = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.place.copy_((self.place + len(keys)) % len(self.queue))

    def after_step(self, towers: Towers, step: int, num_steps: int) -> None:
        # In the order in which the teacher was copied: tower, then head.
        followed = (*towers.image.parameters(), *self.head.parameters())
        with torch.no_grad():
            for teacher, student in zip(self.teacher.parameters(), followed, strict=True):
                teacher.lerp_(student, 1 - self.momentum)
