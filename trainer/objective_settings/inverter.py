"""What the inverter is set by and asks of a batch."""

from typing import ClassVar, Literal

from pydantic import Field

from manifests.foundation.settings import Table
from trainer.objective_settings import Arrangement


class InverterConfig(Table):
    """Table [objective]."""

    name: Literal["inverter"] = "inverter"
    latent_dim: int = Field(ge=1, le=65_536)
    """Numbers of a latent."""
    hidden: int = Field(default=2048, ge=1)
    """Width of the hidden layer of the head; it is not exported."""
    class_weight: float = Field(default=0.0, ge=0)
    """Weight of the cross-entropy of the label beside the latent's error; 0 reads no labels."""


class InverterSettings:
    """Of `trainer.objectives.inverter.Inverter`; see ObjectiveSettings."""

    Config: ClassVar[type[InverterConfig]] = InverterConfig

    @classmethod
    def arrangement(cls, config: InverterConfig) -> Arrangement:
        labels = {"labels"} if config.class_weight else set()
        return Arrangement(min_groups=1, reads=frozenset({"latents", *labels}))
