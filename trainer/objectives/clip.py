"""CLIP: each view belongs to its caption, each caption to its views."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from manifests.foundation.settings import Table
from trainer.models.text import ImageText, TextSpec
from trainer.objectives import Arrangement, Groups, LossTerms


class ClipConfig(Table):
    """Table [objective]."""

    name: Literal["clip"] = "clip"
    text: TextSpec = TextSpec()


class Clip(nn.Module):
    """Source: CLIP, arXiv:2103.00020, figure 3; with several views of a caption as StableRep+."""

    Config: ClassVar[type[ClipConfig]] = ClipConfig
    arrangement: ClassVar[Arrangement] = Arrangement(reads_captions=True)

    def __init__(self, config: ClipConfig, num_features: int) -> None:
        super().__init__()
        self.image_text = ImageText(config.text, num_features)

    def forward(self, features: Float[Tensor, "crops features"], groups: Groups) -> LossTerms:
        image_to_text, text_to_image = self.image_text.losses(
            features, groups.row_ids(), groups.captions, groups.ids
        )
        loss = (image_to_text + text_to_image) / 2
        parts = {
            "image_to_text": image_to_text,
            "text_to_image": text_to_image,
            "scale": self.image_text.scale(),
        }
        return LossTerms(total=loss, parts=parts)

    def after_step(self) -> None:
        self.image_text.clamp_scale()

    def texts(self) -> ImageText:
        return self.image_text
