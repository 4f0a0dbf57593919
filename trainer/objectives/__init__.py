"""Objectives: a batch of view groups in, a loss out.

This file holds the protocol with its laws and the literal table; the other files are plug-ins and
know nothing of each other. The laws, held by `tests/conformance/test_objectives.py` for every one:

- Two ranks with half of the groups each have the loss and the gradients of one process with all.
- The order of groups does not change the loss, nor does that of views if all groups change it alike
  (the statistics of a slot are those of one place in the groups).
- Positives follow the ids of the very batch: other ids, another loss.
- It is finite when all features are equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor, nn

from manifests.foundation.plugins import Entry, load_plugin

OBJECTIVES = {
    "stablerep": Entry("trainer.objectives.stablerep:StableRep", "trainer"),
    "stablerep-plus": Entry("trainer.objectives.stablerep_plus:StableRepPlus", "trainer"),
    "simclr": Entry("trainer.objectives.simclr:SimCLR", "trainer"),
    "clip": Entry("trainer.objectives.clip:Clip", "trainer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """How an objective wants its batch."""

    crops_per_view: int = 1
    min_views: int = 1
    """Fewest views of a group in a batch."""
    splits_groups: bool = False
    """Each view is a group of its own: instance discrimination."""
    reads_captions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What a rank's batch depicts. Rows of features are group-major, then views, then crops."""

    ids: Int[Tensor, " groups"]
    rows_per_group: int
    """Views times crops of each group."""
    captions: Sequence[str]
    """One a group; empty texts if the objective does not read them."""

    def row_ids(self) -> Int[Tensor, " crops"]:
        """Group of each row."""
        return self.ids.repeat_interleave(self.rows_per_group)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """The loss, and its parts for people."""

    total: Float[Tensor, ""]
    parts: Mapping[str, Tensor]


class Objective(Protocol):
    """What an entry of the table is: a module that owns its heads."""

    Config: ClassVar[type[BaseModel]]
    arrangement: ClassVar[Arrangement]

    def __call__(self, features: Float[Tensor, "crops features"], groups: Groups) -> LossTerms:
        """The mean loss over this rank's rows, in float32."""
        ...

    def after_step(self) -> None:
        """Bring parameters back into their range."""
        ...

    def texts(self) -> nn.Module | None:
        """The text half that goes into the export, if there is one."""
        ...


def objective_class(name: str) -> Any:
    """The class of an objective. Raises PluginError."""
    return load_plugin("objective", OBJECTIVES, name, Objective)
