"""StableRep+: StableRep between views, and CLIP between views and their caption."""

from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trainer.models.head import Contrast, HeadConfig
from trainer.models.text import ImageText, TextSpec
from trainer.objectives import Arrangement, Groups, LossTerms


class StableRepPlusConfig(HeadConfig):
    """Table [objective]; both weights are 1 in the paper."""

    name: Literal["stablerep-plus"] = "stablerep-plus"
    image_weight: float = Field(default=1.0, ge=0)
    text_weight: float = Field(default=1.0, ge=0)
    text: TextSpec = TextSpec()


class StableRepPlus(nn.Module):
    """L = w1 L_image + w2 (L_image_to_text + L_text_to_image) / 2.

    Source: StableRep, arXiv:2306.00984, section 3.2; losses.py of google-research/syn-rep-learn,
    which calls it StableRep++.
    """

    Config: ClassVar[type[StableRepPlusConfig]] = StableRepPlusConfig
    arrangement: ClassVar[Arrangement] = Arrangement(min_views=2, reads_captions=True)

    def __init__(self, config: StableRepPlusConfig, num_features: int) -> None:
        super().__init__()
        self.weights = config.image_weight, config.text_weight
        self.contrast = Contrast(config, num_features)
        self.image_text = ImageText(config.text, num_features)

    def forward(self, features: Float[Tensor, "crops features"], groups: Groups) -> LossTerms:
        image = self.contrast(features, groups.row_ids(), groups.rows_per_group)
        image_to_text, text_to_image = self.image_text.losses(
            features, groups.row_ids(), groups.captions, groups.ids
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

    def after_step(self) -> None:
        self.image_text.clamp_scale()

    def texts(self) -> ImageText:
        return self.image_text
