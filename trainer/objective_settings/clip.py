"""What CLIP is set by and asks of a batch."""

from typing import ClassVar, Literal

from pydantic import Field

from manifests.foundation.settings import Table
from trainer.models.specs import TextSpec
from trainer.objective_settings import Arrangement, CropSpec


class ClipConfig(Table):
    """Table [objective]."""

    name: Literal["clip"] = "clip"
    crops: int = Field(default=1, ge=1)
    """Crops of each view; each of them belongs to the caption."""
    text: TextSpec = TextSpec()


class ClipSettings:
    """Of `trainer.objectives.clip.Clip`; see ObjectiveSettings."""

    Config: ClassVar[type[ClipConfig]] = ClipConfig

    @classmethod
    def arrangement(cls, config: ClipConfig) -> Arrangement:
        return Arrangement(crops=(CropSpec(count=config.crops),), reads=frozenset({"captions"}))
