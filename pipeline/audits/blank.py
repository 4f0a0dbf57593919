"""Refuses a picture that shows nothing: all of its pixels have nearly one colour."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from manifests.foundation.settings import Table
from pipeline.audits import Audit
from pipeline.views import RenderedView, ViewRequest


class BlankConfig(Table):
    """Table [audits.blank] of a recipe."""

    min_levels: int = Field(default=8, ge=1, le=255)
    """A picture is kept if, in at least one colour channel, its brightest pixel is this many levels
    of 255 above its darkest."""


class Blank(Audit):
    """Audit `blank`. The laws are in `pipeline.audits`."""

    Config = BlankConfig

    def refuses(self, request: ViewRequest, view: RenderedView) -> bool:
        """Whether every channel spans fewer levels than the configuration asks for."""
        # A few pixels tell that nearly every picture is none; only without them all are looked at.
        return self._spans_few(view.pixels[::7, ::7]) and self._spans_few(view.pixels)

    def _spans_few(self, pixels: NDArray[np.uint8]) -> bool:
        # As int, because a difference of uint8 could wrap around. Each channel is compared with
        # itself: a picture of pure red is blank, though its channels differ.
        span = pixels.max(axis=(0, 1)).astype(int) - pixels.min(axis=(0, 1))
        return bool(span.max() < self.config.min_levels)
