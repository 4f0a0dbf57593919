"""StableRep: the views of one caption are positives for each other."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from trainer.models.head import Contrast, HeadConfig
from trainer.objectives import Arrangement, Groups, LossTerms


class StableRepConfig(HeadConfig):
    """Table [objective]."""

    name: Literal["stablerep"] = "stablerep"


class StableRep(nn.Module):
    """Source: StableRep, arXiv:2306.00984, section 3.1."""

    Config: ClassVar[type[StableRepConfig]] = StableRepConfig
    arrangement: ClassVar[Arrangement] = Arrangement(min_views=2)

    def __init__(self, config: StableRepConfig, num_features: int) -> None:
        super().__init__()
        self.contrast = Contrast(config, num_features)

    def forward(self, features: Float[Tensor, "crops features"], groups: Groups) -> LossTerms:
        loss = self.contrast(features, groups.row_ids(), groups.rows_per_group)
        return LossTerms(total=loss, parts={})

    def after_step(self) -> None:
        """Nothing is bounded."""

    def texts(self) -> None:
        return None
