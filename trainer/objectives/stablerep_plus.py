"""StableRep+: StableRep between views, and CLIP between views and their caption."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from trainer.models.head import ContrastiveHead, HeadConfig
from trainer.models.text import ImageText, TextSpec
from trainer.objectives import Arrangement, Batch, CropSpec, LossTerms, ObjectiveModule, Towers


class StableRepPlusConfig(HeadConfig):
    """Table [objective]; both weights are 1 in the paper."""

    name: Literal["stablerep-plus"] = "stablerep-plus"
    crops: int = Field(default=1, ge=1)
    """Crops of each view; the crops of all views of a group are positives of each other, and of
    its caption."""
    image_weight: float = Field(default=1.0, ge=0)
    text_weight: float = Field(default=1.0, ge=0)
    text: TextSpec = TextSpec()


class StableRepPlus(ObjectiveModule):
    """L = w1 L_image + w2 (L_image_to_text + L_text_to_image) / 2.

    Source: StableRep, arXiv:2306.00984, section 3.2; losses.py of google-research/syn-rep-learn,
    which calls it StableRep++.
    """

    Config: ClassVar[type[StableRepPlusConfig]] = StableRepPlusConfig

    def __init__(self, config: StableRepPlusConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.weights = config.image_weight, config.text_weight
        self.contrast = ContrastiveHead(config, towers.num_features)
        self.image_text = ImageText(config.text, towers.num_features)

    @classmethod
    def arrangement(cls, config: StableRepPlusConfig) -> Arrangement:
        crops = (CropSpec(count=config.crops),)
        return Arrangement(crops=crops, min_views=2, reads=frozenset({"captions"}))

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
