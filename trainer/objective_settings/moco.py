"""What MoCo v2 is set by and asks of a batch."""

from typing import ClassVar, Literal

from pydantic import Field

from manifests.foundation.settings import Table
from trainer.objective_settings import Arrangement, CropSpec


class MocoConfig(Table):
    """Table [objective]; the defaults are those of MoCo v2."""

    name: Literal["moco"] = "moco"
    temperature: float = Field(default=0.2, gt=0)
    head_hidden: int = Field(default=2048, ge=1)
    head_out: int = Field(default=128, ge=1)
    queue: int = Field(default=65_536, ge=1)
    """Embeddings that are remembered, over all ranks."""
    momentum: float = Field(default=0.999, ge=0, lt=1)
    """Part of the teacher that stays after a step."""


class MocoSettings:
    """Of `trainer.objectives.moco.Moco`; see ObjectiveSettings."""

    Config: ClassVar[type[MocoConfig]] = MocoConfig

    @classmethod
    def arrangement(cls, config: MocoConfig) -> Arrangement:
        return Arrangement(crops=(CropSpec(), CropSpec()), min_groups=2, splits_groups=True)
