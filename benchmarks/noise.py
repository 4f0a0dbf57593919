"""A renderer that costs nothing, for what is measured and broken around it."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from manifests.foundation.settings import Table
from pipeline.renderers import Renderer
from pipeline.views import Provenance, RenderedView, ViewRequest


class NoiseConfig(Table):
    """Table [renderer] of a recipe."""

    name: str = "benchmarks.noise:Noise"
    size_px: int = Field(default=16, ge=8, le=4096)
    batch_size: int = Field(default=4, ge=1)
    block_px: int = Field(default=1, ge=1)
    """Side of the squares of one colour, which divides the size: the larger, the fewer bytes."""
    view_s: float = Field(default=0.0, ge=0)
    """Seconds that a view takes, in which nothing is computed."""
    log: str = ""
    """File to which the key of each view that is rendered is appended, and the number of the
    process; none if empty."""


class Noise(Renderer):
    """Pixels drawn from the seed. The laws are in `pipeline.renderers`."""

    Config = NoiseConfig
    kinds = ("caption",)

    @property
    def batch_size(self) -> int:
        return int(self.config.batch_size)

    def identity(self) -> Mapping[str, Any]:
        block_px = self.config.block_px
        return {"version": 1, **({"block_px": block_px} if block_px > 1 else {})}

    def provenance(self) -> Provenance:
        side = self.config.size_px
        return Provenance(model="noise", revision="1", width_px=side, height_px=side)

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        time.sleep(self.config.view_s * len(requests))
        block = self.config.block_px
        shape = (self.config.size_px // block, self.config.size_px // block, 3)
        if self.config.log:
            lines = "".join(f"{request.key} {os.getpid()}\n" for request in requests)
            # One write of a file that is opened to append: processes do not mix their lines.
            file = os.open(Path(self.config.log), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, lines.encode())
            os.close(file)
        return [
            RenderedView(pixels=colours.repeat(block, axis=0).repeat(block, axis=1))
            for colours in (
                np.random.default_rng(request.seed).integers(0, 256, shape, dtype=np.uint8)
                for request in requests
            )
        ]
