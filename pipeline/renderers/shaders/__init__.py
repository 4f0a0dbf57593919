"""Renderer `shaders`: fragment shaders of a user, at random times and places.

Source: Baradad et al., Procedural Image Programs for Representation Learning, arXiv:2211.16412. A
shader is drawn by OpenGL in a process of its own (`process`, `child`), with deadlines to compile
and to draw; one that breaks them, or does not compile, costs its own views and nothing else: their
rows say `not-drawn`, and column `error` says why.
"""

import logging
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from manifests.columns import DeclaredColumn, Value
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import printable, redact, shortened
from manifests.foundation.settings import Table
from manifests.rows import SubjectRow
from pipeline.renderers import Renderer
from pipeline.renderers.shaders import wrapping
from pipeline.renderers.shaders.process import DrawingProcess, ShaderError
from pipeline.views import Provenance, RenderedView, Resources, ViewRequest
from prompts.shaders.dialects import from_text

log = logging.getLogger(__name__)

MIN_TIME, MAX_TIME = 0.1, 10.0
"""Seconds; the paper's range."""

COLUMNS = (
    DeclaredColumn(
        "author", "string", "who wrote the shader, if its file says so", scope="subject"
    ),
    DeclaredColumn("time", "double", "time of the animation", "seconds", scope="view"),
    DeclaredColumn("viewport_x", "double", "shift of the viewport, in sides", scope="view"),
    DeclaredColumn("viewport_y", "double", "shift of the viewport, in sides", scope="view"),
    DeclaredColumn("zoom", "double", "side of the viewport, in sides", scope="view"),
    DeclaredColumn("error", "string", "why there is no picture; empty if there is", scope="view"),
)


class ShadersConfig(Table):
    """Table [renderer] of a recipe."""

    name: Literal["shaders"] = "shaders"
    size_px: int = Field(default=64, ge=8, le=4096)
    """Side of a view."""
    shift: float = Field(default=0.0, ge=0, le=10)
    """The viewport is moved by up to this many sides; 0 as in the paper."""
    zoom: float = Field(default=1.0, ge=1, le=10)
    """The viewport is up to this much larger or smaller; 1 as in the paper."""
    compile_s: float = Field(default=10.0, gt=0, le=3600)
    """Seconds to compile a shader and draw it once; then it is given up."""
    draw_s: float = Field(default=2.0, gt=0, le=3600)
    """Seconds to draw a view."""
    memory_gib: float = Field(default=8.0, ge=0, le=1024)
    """Address space of the process that draws, with Mesa's software renderer; 0 for no limit."""
    batch_size: int = Field(default=64, ge=1, le=4096)
    """Views in one call; the views of one shader are drawn one after the other."""
    device: Literal["cpu", "cuda"] = "cpu"
    """`cpu` is Mesa's software renderer, `cuda` the GPU that EGL finds."""


class Shaders(Renderer):
    """See the module. The laws are in `pipeline.renderers`."""

    Config = ShadersConfig
    kinds = ("shader",)

    def __init__(self, config: ShadersConfig) -> None:
        self.config: ShadersConfig = config
        self.process = DrawingProcess(
            size_px=config.size_px,
            device=config.device,
            compile_s=config.compile_s,
            draw_s=config.draw_s,
            memory_gib=config.memory_gib,
        )
        self._broken: dict[str, str] = {}

    @property
    def batch_size(self) -> int:
        return self.config.batch_size

    def resources(self) -> Resources:
        return Resources(device_type=self.config.device)

    def columns(self) -> Sequence[DeclaredColumn]:
        return COLUMNS

    def check(self, subjects: Sequence[SubjectRow]) -> None:
        """Refuse a text that is no shader. Raises ConfigError."""
        for subject in subjects:
            try:
                from_text(subject.text)
            except ValueError as exc:
                raise ConfigError(f"{subject.label or subject.text[:60]!r}: {exc}") from exc

    def batch_key(self, request: ViewRequest) -> Hashable:
        """Nothing keeps two views apart: each is drawn by itself."""
        return ()

    def identity(self) -> Mapping[str, Any]:
        """The wrapper, the sizes, and the driver, on which bits depend."""
        self.process.start()
        return {
            "wrapping": wrapping.VERSION,
            "size_px": self.config.size_px,
            "shift": self.config.shift,
            "zoom": self.config.zoom,
            "driver": dict(self.process.driver),
        }

    def provenance(self) -> Provenance:
        return Provenance(
            model="shaders",
            revision=str(wrapping.VERSION),
            width_px=self.config.size_px,
            height_px=self.config.size_px,
        )

    def release(self) -> None:
        self.process.close()

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        # In their order: the views of a shader are side by side, and it is compiled once for them.
        return [self._view(request) for request in requests]

    def _view(self, request: ViewRequest) -> RenderedView:
        rng = np.random.default_rng(request.seed)
        side, shift, zoom = self.config.size_px, self.config.shift, self.config.zoom
        time = float(rng.uniform(MIN_TIME, MAX_TIME))
        x, y = (float(rng.uniform(-shift, shift)) for _ in "xy")
        scale = float(zoom ** rng.uniform(-1, 1))
        # The middle of the viewport stays where it is, whatever the zoom.
        offsets = ((x + 0.5 - scale / 2) * side, (y + 0.5 - scale / 2) * side, scale)
        text = request.subject.text
        error = self._broken.get(text, "")
        pixels = np.zeros((side, side, 3), dtype=np.uint8)
        if not error:
            try:
                self._compile(request.subject)
                pixels = self.process.draw(time, offsets)
            except ShaderError as exc:
                error = self._reason(request.subject, exc)
                self._broken[text] = error  # its other views would fail alike
                log.warning("%s", error)
        values: dict[str, Value] = {
            "time": time,
            "viewport_x": x,
            "viewport_y": y,
            "zoom": scale,
            "error": error,
        }
        return RenderedView(pixels=pixels, is_drawn=not error, values=values)

    def _compile(self, subject: SubjectRow) -> None:
        shader = from_text(subject.text)
        texture = wrapping.asks_for_texture(shader)
        if texture:
            raise ShaderError(f"it asks for the texture {texture}, and none is given")
        code = wrapping.wrap(shader)
        self.process.compile(wrapping.VERTEX, code, wrapping.num_targets(shader))

    def _reason(self, subject: SubjectRow, exc: ShaderError) -> str:
        """Why a shader is not drawn, with the user's own file and line. One line."""
        name = subject.label or subject.source or subject.text[:40]
        message = redact(str(exc))
        # Mesa says "0:12(5): error: ..."; drivers of NVIDIA "0(12) : error C0000: ...".
        match = re.search(r"(?m)^\s*\d+[:(](\d+)\)?[^:\n]*:\s*(?:error\s*\w*:\s*)?(.+)$", message)
        if match:
            message = f"line {match[1]}: {match[2]}"
        return printable(shortened(f"{name}, {' '.join(message.split())}"))

    def __del__(self) -> None:
        if hasattr(self, "process"):
            self.process.close()
