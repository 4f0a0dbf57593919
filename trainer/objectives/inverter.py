"""Inverter: predict the latent that a generator made an image from."""

from collections.abc import Sequence
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from trainer.errors import DataError
from trainer.objective_settings.inverter import InverterConfig, InverterSettings
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers


class Inverter(InverterSettings, ObjectiveModule):
    """The mean squared error of a view's latent, and of its class by cross-entropy.

    Source: GenRep, arXiv:2106.05258, section 3.3, which has it as the alternative to contrast.
    """

    uses_ids: ClassVar[bool] = False

    def __init__(self, config: InverterConfig, towers: Towers, classes: Sequence[str]) -> None:
        super().__init__()
        self.latent_dim, self.class_weight = config.latent_dim, config.class_weight
        num_outputs = config.latent_dim + len(classes)
        self.head = nn.Sequential(
            nn.Linear(towers.num_features, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, num_outputs),
        )

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        (crops,) = batch.crops
        assert batch.latents is not None
        if batch.latents.shape[1] != self.latent_dim:
            raise DataError(
                f"inverter: the set's latents have {batch.latents.shape[1]} numbers; give "
                f"--set objective.latent_dim={batch.latents.shape[1]}"
            )
        given = self.head(towers.image(crops.images)).float()
        error = F.mse_loss(given[:, : self.latent_dim], batch.latents)
        if batch.labels is None:
            return LossTerms(total=error)
        labels = batch.labels.repeat_interleave(crops.per_group)
        entropy = F.cross_entropy(given[:, self.latent_dim :], labels)
        parts = {"latent": error.detach(), "class": entropy.detach()}
        return LossTerms(total=error + self.class_weight * entropy, parts=parts)
