"""What BYOL is set by and asks of a batch."""

from typing import ClassVar, Literal

from pydantic import Field

from manifests.foundation.settings import Table
from trainer.objective_settings import Arrangement, CropSpec


class ByolConfig(Table):
    """Table [objective]; the defaults are the paper's."""

    name: Literal["byol"] = "byol"
    head_hidden: int = Field(default=4096, ge=1)
    head_out: int = Field(default=256, ge=1)
    momentum: float = Field(default=0.996, ge=0, lt=1)
    """Part of the teacher that stays after the first step; half a cosine raises it to 1."""


class ByolSettings:
    """Of `trainer.objectives.byol.Byol`; see ObjectiveSettings."""

    Config: ClassVar[type[ByolConfig]] = ByolConfig

    @classmethod
    def arrangement(cls, config: ByolConfig) -> Arrangement:
        # There are no negatives, but the batch norms of the heads need a second row in each set of
        # crops: two groups, as each group is one view.
        return Arrangement(crops=(CropSpec(), CropSpec()), min_groups=2, splits_groups=True)
