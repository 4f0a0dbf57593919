"""StableRep, SimCLR and SupCon: one contrastive loss, and three answers to what is positive."""

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from trainer.models.head import ContrastiveHead, HeadConfig
from trainer.objectives import Arrangement, Batch, CropSpec, LossTerms, ObjectiveModule, Towers


class StableRepConfig(HeadConfig):
    """Table [objective]."""

    name: Literal["stablerep"] = "stablerep"
    crops: int = Field(default=1, ge=1)
    """Crops of each view; the crops of all views of a group are positives of each other."""


class SimCLRConfig(HeadConfig):
    """Table [objective]; head and temperature as for StableRep, so that the two compare."""

    name: Literal["simclr"] = "simclr"
    pairs: Literal["crops", "views"] = "crops"
    """Two crops of one view, or one crop each of two views of a group, as in GenRep."""


class SupConConfig(HeadConfig):
    """Table [objective]."""

    name: Literal["supcon"] = "supcon"
    crops: int = Field(default=2, ge=1)
    """Crops of each view; 1 is enough where a step has two views of each group."""


class _Contrastive(ObjectiveModule):
    """Rows with equal ids are positives, all other rows of the step are negatives."""

    def __init__(self, config: HeadConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.contrast: nn.Module = ContrastiveHead(config, towers.num_features)

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        (crops,) = batch.crops
        features = towers.image(crops.images)
        loss = self.contrast(features, self.row_ids(batch), crops.per_group)
        return LossTerms(total=loss)

    def row_ids(self, batch: Batch) -> Tensor:
        """What makes rows positives of each other: the group, unless a subclass says otherwise."""
        return batch.row_ids(batch.crops[0])


class StableRep(_Contrastive):
    """The views of one group are positives of each other.

    Source: StableRep, arXiv:2306.00984, section 3.1.
    """

    Config: ClassVar[type[StableRepConfig]] = StableRepConfig

    @classmethod
    def arrangement(cls, config: StableRepConfig) -> Arrangement:
        return Arrangement(crops=(CropSpec(count=config.crops),), min_views=2)


class SimCLR(_Contrastive):
    """Two crops of one view are positives of each other; every other view is a negative.

    With `pairs = "views"` the two positives are views of one group, and with more than two of them
    in a step the loss is StableRep's. Source: NT-Xent of SimCLR, arXiv:2002.05709, equation 1; of
    pairs of views: GenRep, arXiv:2106.05258, section 3.3.
    """

    Config: ClassVar[type[SimCLRConfig]] = SimCLRConfig

    @classmethod
    def arrangement(cls, config: SimCLRConfig) -> Arrangement:
        if config.pairs == "views":
            return Arrangement(min_views=2)
        return Arrangement(crops=(CropSpec(count=2),), splits_groups=True)


class SupCon(_Contrastive):
    """The crops of all views of one class are positives of each other.

    The mean over the positives stands outside the logarithm (the paper's L_out), so the loss is
    StableRep's with classes in place of captions. The paper's code multiplies it by
    temperature / 0.07, which scales the gradient and moves no optimum.

    Source: SupCon, arXiv:2004.11362, equation 2; GenRep, arXiv:2106.05258, trains with it.
    """

    Config: ClassVar[type[SupConConfig]] = SupConConfig
    uses_ids: ClassVar[bool] = False

    @classmethod
    def arrangement(cls, config: SupConConfig) -> Arrangement:
        return Arrangement(
            crops=(CropSpec(count=config.crops),),
            min_views=1 if config.crops > 1 else 2,
            reads=frozenset({"labels"}),
        )

    def row_ids(self, batch: Batch) -> Tensor:
        assert batch.labels is not None
        return batch.labels.repeat_interleave(batch.crops[0].per_group)
