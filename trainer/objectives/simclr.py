"""SimCLR: two crops of one view are positives; every other view is a negative."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from trainer.models.head import Contrast, HeadConfig
from trainer.objectives import Arrangement, Groups, LossTerms


class SimCLRConfig(HeadConfig):
    """Table [objective]; head and temperature as for StableRep, so that the two compare."""

    name: Literal["simclr"] = "simclr"


class SimCLR(nn.Module):
    """NT-Xent: the multi-positive loss where each view is a group of its own with two crops.

    Source: SimCLR, arXiv:2002.05709, equation 1.
    """

    Config: ClassVar[type[SimCLRConfig]] = SimCLRConfig
    arrangement: ClassVar[Arrangement] = Arrangement(crops_per_view=2, splits_groups=True)

    def __init__(self, config: SimCLRConfig, num_features: int) -> None:
        super().__init__()
        self.contrast = Contrast(config, num_features)

    def forward(self, features: Float[Tensor, "crops features"], groups: Groups) -> LossTerms:
        loss = self.contrast(features, groups.row_ids(), groups.rows_per_group)
        return LossTerms(total=loss, parts={})

    def after_step(self) -> None:
        """Nothing is bounded."""

    def texts(self) -> None:
        return None
