"""CLIP: each view belongs to its caption, and each caption to its views."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from trainer.models.text import ImageText
from trainer.objective_settings.clip import ClipConfig, ClipSettings
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers


class Clip(ClipSettings, ObjectiveModule):
    """The mean of image-to-text and text-to-image cross-entropy.

    Source: CLIP, arXiv:2103.00020, figure 3; with several views of a caption as in StableRep+.
    """

    def __init__(self, config: ClipConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.image_text = ImageText(config.text, towers.num_features)

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        (crops,) = batch.crops
        image_to_text, text_to_image = self.image_text.losses(
            towers.image(crops.images), batch.row_ids(crops), batch.captions, batch.ids
        )
        parts = {
            "image_to_text": image_to_text,
            "text_to_image": text_to_image,
            "scale": self.image_text.scale(),
        }
        return LossTerms(total=(image_to_text + text_to_image) / 2, parts=parts)

    def after_step(self, towers: Towers, step: int, num_steps: int) -> None:
        self.image_text.clamp_scale()

    def exports(self) -> Mapping[str, nn.Module]:
        return {"text": self.image_text}
