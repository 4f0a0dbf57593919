"""What StableRep+ is set by and asks of a batch."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.models.specs import HeadConfig, TextSpec
from trainer.objective_settings import Arrangement, CropSpec


class StableRepPlusConfig(HeadConfig):
    """Table [objective]; both weights are 1 in the paper."""

    name: Literal["stablerep-plus"] = "stablerep-plus"
    crops: int = Field(default=1, ge=1)
    """Crops of each view; the crops of all views of a group are positives of each other, and of
    its caption."""
    image_weight: float = Field(default=1.0, ge=0)
    text_weight: float = Field(default=1.0, ge=0)
    text: TextSpec = TextSpec()


class StableRepPlusSettings:
    """Of `trainer.objectives.stablerep_plus.StableRepPlus`; see ObjectiveSettings."""

    Config: ClassVar[type[StableRepPlusConfig]] = StableRepPlusConfig

    @classmethod
    def arrangement(cls, config: StableRepPlusConfig) -> Arrangement:
        crops = (CropSpec(count=config.crops),)
        return Arrangement(crops=crops, min_views=2, reads=frozenset({"captions"}))
