"""What a renderer is given and what it gives back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.plan import ViewRequest as ViewRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedView:
    """Pixels of one request."""

    pixels: NDArray[np.uint8]
    """RGB, [height, width, 3]."""
    is_finite: bool = True
    """False if the renderer's own numbers held NaN or infinity; the pixels mean nothing then."""
    num_tokens_cut: int = 0
    """Tokens of the prompt beyond the model's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What the rows say about how their views were made, the same for a whole set."""

    renderer: str
    model: str
    revision: str
    scheduler: str
    steps: int
    width_px: int
    height_px: int
    negative_prompt: str
    """Steers every guided view whose prompt has none of its own."""
    params: str
    """Anything else, canonical JSON."""
