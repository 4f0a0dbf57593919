"""What cross-entropy is set by and asks of a batch."""

from typing import ClassVar, Literal

from pydantic import Field

from manifests.foundation.settings import Table
from trainer.objective_settings import Arrangement, CropSpec


class CrossEntropyConfig(Table):
    """Table [objective]."""

    name: Literal["cross-entropy"] = "cross-entropy"
    classes: Literal["labels", "groups"] = "labels"
    """`groups`: each group is a class of its own, as programs are in Shaders21k."""
    crops: int = Field(default=1, ge=1)
    """Crops of each view."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Part of the target that is spread evenly over all classes."""


class CrossEntropySettings:
    """Of `trainer.objectives.cross_entropy.CrossEntropy`; see ObjectiveSettings."""

    Config: ClassVar[type[CrossEntropyConfig]] = CrossEntropyConfig

    @classmethod
    def arrangement(cls, config: CrossEntropyConfig) -> Arrangement:
        labels = "labels" if config.classes == "labels" else "group_labels"
        crops = (CropSpec(count=config.crops),)
        return Arrangement(crops=crops, min_groups=1, reads=frozenset({labels}))
