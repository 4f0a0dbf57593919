"""Small renderers that tests name by dotted path, as users name renderers of their own."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manifests.columns import DeclaredColumn
from manifests.foundation.settings import Table
from pipeline.errors import RenderError, RenderMemoryError
from pipeline.renderers import Renderer
from pipeline.views import Provenance, RenderedView, Resources, ViewRequest

SIZE_PX = 8


class StripesConfig(Table):
    name: str
    angles: tuple[float, ...] = (0.0, 90.0)


class Stripes(Renderer):
    """Stripes of a random width in some directions: no model, no captions, no guidance."""

    Config, kinds = StripesConfig, ("pattern", "caption")

    def columns(self):
        return [DeclaredColumn("angle", "double", "direction", "degrees", scope="variation")]

    def variations(self):
        return [{"angle": angle} for angle in self.config.angles]

    def identity(self):
        return {"version": 1}

    def provenance(self):
        return Provenance(model="stripes", revision="1", width_px=16, height_px=16)

    def render(self, requests):
        return [RenderedView(pixels=self.paint(request)) for request in requests]

    def paint(self, request):
        turn, width = np.radians(request.variation["angle"]), 0.2 + request.seed % 1009 / 1000
        y, x = np.mgrid[:16, :16]
        wave = 127.5 + 127.5 * np.sin(width * (x * np.cos(turn) + y * np.sin(turn)))
        return np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)


class Crowded(Stripes):
    """Stripes that are darker the more views are in a call, against the laws of renderers."""

    def render(self, requests):
        darker = len(requests)
        return [RenderedView(pixels=self.paint(request) // darker) for request in requests]


class FaultyConfig(Table):
    name: str = "tests.renderers:Faulty"
    batch_size: int = 4
    guidance: tuple[float, ...] = (1.0,)
    threads: int = 1
    trouble: str | None = None
    """A folder. Each file in it is named after a kind of trouble, and lists the captions that cause
    it, one on each line, for as long as the file is there."""


class Faulty(Renderer):
    """Noise from the seed, or the trouble that the files in the folder `trouble` ask for.

    `raise`: rendering the batch raises RenderError. `bug`: it raises an error that no renderer may
    raise. `memory`: the device is out of memory. `die`: the process is killed. `die-once`: the
    same, but the file is removed first, so the next try succeeds. `nan`: pixels are not finite.
    `blank`: pixels are of one colour. `slow`: a batch takes half a second. `hang`: it never ends.
    `hang-once`: the same, but the file is removed first. `local-error`: it raises an error that no
    other process can read.
    """

    Config = FaultyConfig
    kinds = ("caption",)

    @property
    def batch_size(self) -> int:
        return int(self.config.batch_size)

    def columns(self) -> Sequence[DeclaredColumn]:
        return [DeclaredColumn("guidance_scale", "double", "has no effect", scope="variation")]

    def variations(self) -> Sequence[Mapping[str, float]]:
        return [{"guidance_scale": scale} for scale in self.config.guidance]

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": self.config.batch_size}

    def provenance(self) -> Provenance:
        return Provenance(model="noise", revision="1", width_px=SIZE_PX, height_px=SIZE_PX)

    def _troubled(self, kind: str) -> set[str]:
        if self.config.trouble is None:
            return set()
        path = Path(self.config.trouble) / kind
        return set(path.read_text().splitlines()) if path.exists() else set()

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        captions = {request.subject.text for request in requests}
        if captions & self._troubled("die-once"):
            Path(self.config.trouble or "", "die-once").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if captions & self._troubled("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if captions & self._troubled("slow"):
            time.sleep(0.5)
        if captions & self._troubled("hang-once"):
            Path(self.config.trouble or "", "hang-once").unlink()
            time.sleep(1e6)
        if captions & self._troubled("hang"):
            time.sleep(1e6)
        if captions & self._troubled("memory"):
            raise RenderMemoryError("out of memory; begin a set with a smaller --batch-size")
        if captions & self._troubled("local-error"):

            class LocalError(Exception):
                """Its class is not found where it arrives."""

            raise LocalError("colour")
        if captions & self._troubled("bug"):
            raise KeyError("colour")
        if refused := captions & self._troubled("raise"):
            raise RenderError(f"cannot render {min(refused)!r}")
        return [self._view(request) for request in requests]

    def _view(self, request: ViewRequest) -> RenderedView:
        noise = np.random.default_rng(request.seed).integers(0, 256, (SIZE_PX, SIZE_PX, 3))
        pixels = noise.astype(np.uint8)
        if request.subject.text in self._troubled("blank"):
            pixels[:] = 7
        return RenderedView(
            pixels=pixels, is_finite=request.subject.text not in self._troubled("nan")
        )


class SlowToOpen(Faulty):
    """Says that it is being opened, in the file `opened`, and waits while `slow-open` is there."""

    def __init__(self, config: FaultyConfig) -> None:
        super().__init__(config)
        with Path(config.trouble or "", "opened").open("a") as file:
            file.write(".")
        while Path(config.trouble or "", "slow-open").exists():
            time.sleep(0.05)

    def resources(self) -> Resources:
        return Resources(threads=self.config.threads)


class DiesWhenOpened(Faulty):
    """Ends its process, as a library can that finds no device."""

    def __init__(self, config: FaultyConfig) -> None:
        super().__init__(config)
        os._exit(1)
