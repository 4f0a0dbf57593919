"""StableRep+: StableRep between views, and CLIP between views and their caption."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from trainer.models.head import ContrastiveHead
from trainer.models.text import ImageText
from trainer.objective_settings.stablerep_plus import StableRepPlusConfig, StableRepPlusSettings
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers


class StableRepPlus(StableRepPlusSettings, ObjectiveModule):
    """L = w1 L_image + w2 (L_image_to_text + L_text_to_image) / 2.

    Source: StableRep, arXiv:2306.00984, section 3.2; losses.py of google-research/syn-rep-learn,
    which calls it StableRep++.
    """

    def __init__(self, config: StableRepPlusConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.weights = config.image_weight, config.text_weight
        self.contrast = ContrastiveHead(config, towers.num_features)
        self.image_text = ImageText(config.text, towers.num_features)

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        (crops,) = batch.crops
        features, row_ids = towers.image(crops.images), batch.row_ids(crops)
        image = self.contrast(features, row_ids, crops.per_group)
        image_to_text, text_to_image = self.image_text.losses(
            features, row_ids, batch.captions, batch.ids
        )
        image_weight, text_weight = self.weights
        total = image_weight * image + text_weight * (image_to_text + text_to_image) / 2
        parts = {
            "image": image,
            "image_to_text": image_to_text,
            "text_to_image": text_to_image,
            "scale": self.image_text.scale(),
        }
        return LossTerms(total=total, parts=parts)

    def after_step(self, towers: Towers, step: int, num_steps: int) -> None:
        self.image_text.clamp_scale()

    def exports(self) -> Mapping[str, nn.Module]:
        return {"text": self.image_text}
