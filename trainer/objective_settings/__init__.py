"""What objectives are set by, and what they ask of a batch: all that a plan needs of them.

This folder holds only plug-ins: the half of each objective that needs no torch, so that a recipe is
checked against its set before torch is imported. The other half is in `trainer.objectives` and
derives from this one. The class of somebody else is both halves at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from manifests.foundation.plugins import Entry, load_plugin

OBJECTIVE_SETTINGS = {
    "stablerep": Entry("trainer.objective_settings.contrastive:StableRepSettings", "trainer"),
    "stablerep-plus": Entry(
        "trainer.objective_settings.stablerep_plus:StableRepPlusSettings", "trainer"
    ),
    "simclr": Entry("trainer.objective_settings.contrastive:SimCLRSettings", "trainer"),
    "supcon": Entry("trainer.objective_settings.contrastive:SupConSettings", "trainer"),
    "clip": Entry("trainer.objective_settings.clip:ClipSettings", "trainer"),
    "byol": Entry("trainer.objective_settings.byol:ByolSettings", "trainer"),
    "synclr": Entry("trainer.objective_settings.synclr:SynclrSettings", "trainer"),
    "moco": Entry("trainer.objective_settings.moco:MocoSettings", "trainer"),
    "cross-entropy": Entry(
        "trainer.objective_settings.cross_entropy:CrossEntropySettings", "trainer"
    ),
    "inverter": Entry("trainer.objective_settings.inverter:InverterSettings", "trainer"),
}

READABLE = frozenset({"captions", "labels", "group_labels", "latents", "draws"})
"""What an objective may read of a batch besides images and group ids. `group_labels` are labels
that make each group a class of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropSpec:
    """One set of crops, drawn with the same settings from every view."""

    count: int = 1
    """Crops of each view."""
    size: float = 1.0
    """Side of a crop as a fraction of `model.input_px`; 0.5 halves it."""
    augment: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the table [augment] whose value is different for these crops."""

    def side_px(self, input_px: int) -> int:
        """Side of a crop for a tower with this input."""
        return max(round(self.size * input_px), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What an objective wants in its batch."""

    crops: tuple[CropSpec, ...] = (CropSpec(),)
    """The sets of crops of each view; `Batch.crops` has one entry for each."""
    min_groups: int = 2
    """Fewest groups in a step, over all ranks: the default leaves every group a negative."""
    min_views: int = 1
    """Fewest views of a group in a step."""
    splits_groups: bool = False
    """Each view is a group of its own, as instance discrimination wants it."""
    reads: frozenset[str] = frozenset()
    """Of READABLE. Groups without a caption or label that is read are left out of the training."""

    @property
    def crops_per_view(self) -> int:
        """Crops of each view over all crop sets."""
        return sum(crops.count for crops in self.crops)


class ObjectiveSettings(Protocol):
    """What an entry of the table is."""

    Config: ClassVar[type[BaseModel]]
    """Table [objective] of a recipe."""

    @classmethod
    def arrangement(cls, config: Any) -> Arrangement:
        """What it wants in its batch."""
        ...


def objective_settings(name: str) -> type[ObjectiveSettings]:
    """What an objective is set by and asks for. Raises PluginError."""
    settings: type[ObjectiveSettings] = load_plugin(
        "objective", OBJECTIVE_SETTINGS, name, ObjectiveSettings
    )
    return settings
