"""What a renderer is given, what it says of itself, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from manifests.columns import Value
from manifests.foundation.errors import ConfigError
from manifests.plan import ViewRequest as ViewRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedView:
    """Pixels of one request."""

    pixels: NDArray[np.uint8]
    """RGB, [height, width, 3]."""
    is_finite: bool = True
    """False if the renderer computed NaN or infinity for this view: its pixels mean nothing."""
    is_drawn: bool = True
    """False if there is no picture for this very request, and none if it is tried again: its row
    fails as `not-drawn`. A declared column can say why."""
    values: Mapping[str, Value] = field(default_factory=dict)
    """Values of the declared columns of scope `view`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What rows say about the making of their views; it is the same for a whole set."""

    model: str
    """Name of the generator."""
    revision: str
    """Revision of the generator, or of the renderer's own code."""
    width_px: int
    """Of the first variation, where they differ in size."""
    height_px: int
    constants: Mapping[str, Value] = field(default_factory=dict)
    """Values of the declared columns of scope `set`."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.width_px, self.height_px


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a worker needs for one renderer.

    Raises:
        ConfigError: Another device type, or no whole number of GPUs or cores.
    """

    device_type: str = "cpu"
    """`cuda` for GPUs, `cpu` for none."""
    gpus: int = 1
    """GPUs of one worker, where the device type is `cuda`."""
    threads: int = 1
    """Cores that one worker keeps busy on the CPU."""

    def __post_init__(self) -> None:
        if self.device_type not in ("cpu", "cuda"):
            raise ConfigError(f"device_type is {self.device_type!r:.40}, expected cpu or cuda")
        for name in ("gpus", "threads"):
            number = getattr(self, name)
            if type(number) is not int or number < 1:
                raise ConfigError(f"{name} is {number!r:.40}, expected 1 or more")
