"""Objectives: what the image tower learns from a batch of view groups.

This file holds the protocol, its laws and the literal table. The other files of this folder are
plug-ins, and none of them imports another; what each is set by and asks of a batch is read without
torch, from `trainer.objective_settings`. `trainer.testing.ObjectiveLaws` tests these laws:

1. Two ranks with half of the groups each have the loss and the gradients of one process with all.
2. The order of the groups does not change the loss.
3. The loss changes when the group ids change, if and only if the objective declares `uses_ids`.
4. Loss and gradients are finite when all images are equal.
5. Every parameter that requires a gradient receives one that is not zero.
6. An objective that declares `has_teacher` has parameters without a gradient, and `after_step`
   moves them in the same way on all ranks. Any other objective has no such parameters.
7. Rows that pass the tower a few at a time (`trainer.grad_cache`) have the same gradients.
8. The host never waits for the device: no value of a tensor is read, and every copy goes by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn

from manifests.foundation.plugins import Entry, load_plugin
from trainer.objective_settings import Arrangement, ObjectiveSettings

OBJECTIVES = {
    "stablerep": Entry("trainer.objectives.contrastive:StableRep", "trainer"),
    "stablerep-plus": Entry("trainer.objectives.stablerep_plus:StableRepPlus", "trainer"),
    "simclr": Entry("trainer.objectives.contrastive:SimCLR", "trainer"),
    "supcon": Entry("trainer.objectives.contrastive:SupCon", "trainer"),
    "clip": Entry("trainer.objectives.clip:Clip", "trainer"),
    "byol": Entry("trainer.objectives.byol:Byol", "trainer"),
    "synclr": Entry("trainer.objectives.synclr:Synclr", "trainer"),
    "moco": Entry("trainer.objectives.moco:Moco", "trainer"),
    "cross-entropy": Entry("trainer.objectives.cross_entropy:CrossEntropy", "trainer"),
    "inverter": Entry("trainer.objectives.inverter:Inverter", "trainer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """One set of crops of this rank's batch, on the device. Rows are group-major, then views."""

    images: Float[Tensor, "crops 3 height width"]
    """Coloured and normalised: what the image tower takes."""
    per_group: int
    """Views of a group times crops of a view."""
    draws: Float[Tensor, "crops fields"] | None = None
    """How each crop was made: columns BOX_FIELDS and COLOUR_FIELDS of `trainer.data.crops`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One rank's batch, on the device."""

    crops: tuple[Crops, ...]
    """One entry for each CropSpec of the arrangement."""
    ids: Int[Tensor, " groups"]
    """Groups with equal ids are positives of each other."""
    captions: Sequence[str] = ()
    """One for each group, if the objective reads captions."""
    labels: Int[Tensor, " groups"] | None = None
    """Index into the classes that the objective was built with, if it reads labels."""
    latents: Float[Tensor, "crops dimensions"] | None = None
    """Of each row of the first crop set, if the objective reads latents."""

    def row_ids(self, crops: Crops) -> Int[Tensor, " crops"]:
        """Group id of each row of one set of crops.

        Example: ids [7, 9] and two rows a group give [7, 7, 9, 9].
        """
        return self.ids.repeat_interleave(crops.per_group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Towers:
    """What is trained besides the objective's own modules."""

    image: nn.Module
    """Normalised images [B, 3, H, W] to features [B, num_features]. It is what is exported. What
    calls more of it than its forward pass takes it through `trainer.grad_cache.unwrapped`."""
    num_features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """The loss, and numbers that are logged beside it."""

    total: Float[Tensor, ""]
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars by name; their mean over the ranks is logged."""


class Objective(ObjectiveSettings, Protocol):
    """What an entry of the table is: a `torch.nn.Module` that owns its heads and its teacher.

    It is built with `Objective(config, towers, classes)`: an instance of its `Config`, the towers,
    which it may copy but must not keep as a submodule, and the names of the classes that labels
    are indices into (empty if it reads none).
    """

    uses_ids: ClassVar[bool]
    """Whether the loss depends on which rows have equal group ids."""
    has_teacher: ClassVar[bool]
    """Whether parameters follow others, moved by `after_step` and not by the optimizer."""

    def __call__(self, towers: Towers, batch: Batch) -> LossTerms:
        """The mean loss over this rank's rows, in float32."""
        ...

    def after_step(self, towers: Towers, step: int, num_steps: int) -> None:
        """Called on every rank after each step.

        Args:
            towers: With the parameters that the step has changed. If its gradients were not finite,
                they are those from before it, which only the device knows by now.
            step: The step that was taken, counted from 0.
            num_steps: Steps of the whole run.
        """
        ...

    def exports(self) -> Mapping[str, nn.Module]:
        """The modules that a finished run keeps, by the part that `trainer.exports` writes.

        The image tower is kept as the part `image`, unless another module is returned for it.
        """
        ...


class ObjectiveModule(nn.Module):
    """An optional base class with the usual defaults of an objective."""

    uses_ids: ClassVar[bool] = True
    has_teacher: ClassVar[bool] = False

    @classmethod
    def arrangement(cls, config: Any) -> Arrangement:
        """One crop of each view."""
        return Arrangement()

    def after_step(self, towers: Towers, step: int, num_steps: int) -> None:
        """Do nothing: there is no teacher that follows the parameters."""

    def exports(self) -> Mapping[str, nn.Module]:
        """Add nothing to the image tower."""
        return {}


def objective_class(name: str) -> Any:
    """The class of an objective. Raises PluginError."""
    return load_plugin("objective", OBJECTIVES, name, Objective)
