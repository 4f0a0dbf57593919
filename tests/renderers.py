"""A small renderer that fails on purpose, used by dotted path as anybody's own would be."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipeline.errors import RenderError, RenderMemoryError
from pipeline.views import Provenance, RenderedView, ViewRequest

SIZE_PX = 8


class FaultyConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "tests.renderers:Faulty"
    batch_size: int = 4
    trouble: str | None = None
    """Folder; while it holds a file named as below, the captions in the file make trouble."""


class Faulty:
    """Noise from the seed; with a `trouble` folder, what the files there ask for.

    `raise`: the batch raises. `nan`: pixels are not finite. `blank`: pixels are of one colour.
    `memory`: out of memory. `die`: the process is killed. `die-once`: the same, and the file goes.
    """

    Config = FaultyConfig

    def __init__(self, config: FaultyConfig) -> None:
        self.config = config

    @property
    def batch_size(self) -> int:
        return self.config.batch_size

    def check(self, guidance_scales: Sequence[float], has_negative_prompts: bool) -> None:
        pass

    def with_batch_size(self, requests: Sequence[ViewRequest]) -> "Faulty":
        return self

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": self.config.batch_size}

    def provenance(self) -> Provenance:
        return Provenance(
            renderer="faulty",
            model="noise",
            revision="1",
            scheduler="",
            steps=0,
            width_px=SIZE_PX,
            height_px=SIZE_PX,
            negative_prompt="",
            params="{}",
        )

    def _troubled(self, kind: str) -> set[str]:
        if self.config.trouble is None:
            return set()
        path = Path(self.config.trouble) / kind
        return set(path.read_text().splitlines()) if path.exists() else set()

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        captions = {request.prompt.prompt for request in requests}
        if captions & self._troubled("die-once"):
            Path(self.config.trouble or "", "die-once").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if captions & self._troubled("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if captions & self._troubled("memory"):
            raise RenderMemoryError("out of memory; begin a set with a smaller --batch-size")
        if found := captions & self._troubled("raise"):
            raise RenderError(f"cannot render {sorted(found)[0]!r}")
        return [self._view(request) for request in requests]

    def _view(self, request: ViewRequest) -> RenderedView:
        noise = np.random.default_rng(request.seed).integers(0, 256, (SIZE_PX, SIZE_PX, 3))
        pixels = noise.astype(np.uint8)
        if request.prompt.prompt in self._troubled("blank"):
            pixels[:] = 7
        return RenderedView(
            pixels=pixels, is_finite=request.prompt.prompt not in self._troubled("nan")
        )
