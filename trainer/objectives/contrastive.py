"""StableRep and SimCLR: one contrastive loss, and two answers to what the positives are."""

from typing import Any, ClassVar, Literal

from torch import nn

from trainer.models.head import ContrastiveHead, HeadConfig
from trainer.objectives import Arrangement, Batch, CropSpec, LossTerms, ObjectiveModule, Towers


class StableRepConfig(HeadConfig):
    """Table [objective]."""

    name: Literal["stablerep"] = "stablerep"


class SimCLRConfig(HeadConfig):
    """Table [objective]; head and temperature as for StableRep, so that the two compare."""

    name: Literal["simclr"] = "simclr"


class _Contrastive(ObjectiveModule):
    """Rows with equal group ids are positives, all other rows of the step are negatives."""

    def __init__(self, config: HeadConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.contrast: nn.Module = ContrastiveHead(config, towers.num_features)

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        (crops,) = batch.crops
        features = towers.image(crops.images)
        loss = self.contrast(features, batch.row_ids(crops), crops.per_group)
        return LossTerms(total=loss)


class StableRep(_Contrastive):
    """The views of one group are positives of each other.

    Source: StableRep, arXiv:2306.00984, section 3.1.
    """

    Config: ClassVar[type[StableRepConfig]] = StableRepConfig

    @classmethod
    def arrangement(cls, config: StableRepConfig) -> Arrangement:
        return Arrangement(min_views=2)


class SimCLR(_Contrastive):
    """Two crops of one view are positives of each other; every other view is a negative.

    Source: NT-Xent of SimCLR, arXiv:2002.05709, equation 1.
    """

    Config: ClassVar[type[SimCLRConfig]] = SimCLRConfig

    @classmethod
    def arrangement(cls, config: SimCLRConfig) -> Arrangement:
        return Arrangement(crops=(CropSpec(count=2),), splits_groups=True)
