"""What StableRep, SimCLR and SupCon are set by and ask of a batch."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.models.specs import HeadConfig
from trainer.objective_settings import Arrangement, CropSpec


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


class StableRepSettings:
    """Of `trainer.objectives.contrastive.StableRep`; see ObjectiveSettings."""

    Config: ClassVar[type[StableRepConfig]] = StableRepConfig

    @classmethod
    def arrangement(cls, config: StableRepConfig) -> Arrangement:
        return Arrangement(crops=(CropSpec(count=config.crops),), min_views=2)


class SimCLRSettings:
    """Of `trainer.objectives.contrastive.SimCLR`; see ObjectiveSettings."""

    Config: ClassVar[type[SimCLRConfig]] = SimCLRConfig

    @classmethod
    def arrangement(cls, config: SimCLRConfig) -> Arrangement:
        if config.pairs == "views":
            return Arrangement(min_views=2)
        return Arrangement(crops=(CropSpec(count=2),), splits_groups=True)


class SupConSettings:
    """Of `trainer.objectives.contrastive.SupCon`; see ObjectiveSettings."""

    Config: ClassVar[type[SupConConfig]] = SupConConfig

    @classmethod
    def arrangement(cls, config: SupConConfig) -> Arrangement:
        return Arrangement(
            crops=(CropSpec(count=config.crops),),
            min_views=1 if config.crops > 1 else 2,
            reads=frozenset({"labels"}),
        )
