"""Renderer `image-programs`: views of small programs, at random times and places.

Source: Baradad et al., Procedural Image Programs for Representation Learning, arXiv:2211.16412. Its
programs are fragment shaders, drawn at a time between 0.1 and 10 seconds; ours are texts of a small
language (`language`, `functions`), and a view also moves the viewport. With `mix` above 1 a view is
the average of its program and so many less one others, with random convex weights, as in the
paper's MixUp.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from manifests.canonical import hash_file
from manifests.columns import DeclaredColumn, Value
from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import Table
from manifests.rows import SubjectRow
from pipeline.devices import has_gpu
from pipeline.renderers import Renderer
from pipeline.renderers.image_programs import language
from pipeline.renderers.image_programs.language import ProgramError
from pipeline.views import Provenance, RenderedView, Resources, ViewRequest
from prompts.programs import grammar
from prompts.programs.accepted import ACCEPTED_FILE, program_text

if TYPE_CHECKING:
    from pipeline.renderers.image_programs.drawing import Viewport

MIN_TIME, MAX_TIME = 0.1, 10.0
"""Seconds; the paper's range."""
MAX_SHIFT = 0.5
"""Of the middle of the viewport, in units of the plane."""
MIN_ZOOM, MAX_ZOOM = 0.7, 1.3
"""Half of the side of the viewport."""

COLUMNS = (
    DeclaredColumn("language", "int64", "version of the language of programs", scope="set"),
    DeclaredColumn("mix", "int64", "programs that are blended into a view", scope="variation"),
    DeclaredColumn("time", "double", "time of the animation", "seconds", scope="view"),
    DeclaredColumn("viewport_x", "double", "middle of the viewport, to the right", scope="view"),
    DeclaredColumn("viewport_y", "double", "middle of the viewport, upwards", scope="view"),
    DeclaredColumn("zoom", "double", "half of the side of the viewport", scope="view"),
)


class ImageProgramsConfig(Table):
    """Table [renderer] of a recipe."""

    name: Literal["image-programs"] = "image-programs"
    size_px: int = Field(default=64, ge=8, le=4096)
    """Side of a view."""
    mix: tuple[int, ...] = Field(default=(1,), min_length=1)
    """Numbers of programs blended into a view, dealt over the views of each program in turn; 1 is
    the program alone. The paper's best is 6."""
    batch_size: int = Field(default=64, ge=1, le=4096)
    """Views in one call; the views of one program are drawn at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("mix")
    @classmethod
    def _bounds(cls, mix: tuple[int, ...]) -> tuple[int, ...]:
        for number in mix:
            if not 1 <= number <= 16:
                raise ValueError(f"{number} programs in a view, expected 1 to 16")
        return mix


class ImagePrograms(Renderer):
    """See the module. The laws are in `pipeline.renderers`."""

    Config = ImageProgramsConfig
    kinds = ("program",)

    def __init__(self, config: ImageProgramsConfig) -> None:
        self.config: ImageProgramsConfig = config
        self.device: str = config.device
        if config.device == "auto":
            self.device = "cuda" if has_gpu() else "cpu"
        if self.device == "cuda" and not has_gpu():
            raise ConfigError("renderer.device is cuda, and no GPU is found; give cpu")

    @property
    def batch_size(self) -> int:
        return self.config.batch_size

    def resources(self) -> Resources:
        return Resources(device_type=self.device)

    def columns(self) -> Sequence[DeclaredColumn]:
        return COLUMNS

    def variations(self) -> Sequence[Mapping[str, Value]]:
        return [{"mix": number} for number in self.config.mix]

    def check(self, subjects: Sequence[SubjectRow]) -> None:
        """Refuse a text that is no program. Raises ConfigError."""
        from pipeline.renderers.image_programs.drawing import read_program  # imports torch

        for subject in subjects:
            try:
                read_program(subject.text)
            except ProgramError as exc:
                raise ConfigError(f"{subject.source or subject.text[:60]!r}: {exc}") from exc

    def frozen(self) -> ImageProgramsConfig:
        return self.config.model_copy(update={"device": self.device})

    def batch_key(self, request: ViewRequest) -> Hashable:
        """Nothing keeps two views apart: each is computed for itself."""
        return ()

    def identity(self) -> Mapping[str, Any]:
        """Language, size and device; and if views are mixed, the programs they are mixed with."""
        others = {"grammar": grammar.VERSION, "accepted": hash_file(ACCEPTED_FILE)}
        return {
            "language": language.VERSION,
            "size_px": self.config.size_px,
            "device_type": self.device,
            **({"others": others} if max(self.config.mix) > 1 else {}),
        }

    def provenance(self) -> Provenance:
        return Provenance(
            model="image-programs",
            revision=str(language.VERSION),
            width_px=self.config.size_px,
            height_px=self.config.size_px,
            constants={"language": language.VERSION},
        )

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        rendered: dict[str, RenderedView] = {}
        # The views of a program are drawn together; a call of a worker has them side by side.
        for text, views in groupby(requests, key=lambda request: request.subject.text):
            for request, view in self._views(text, list(views)):
                rendered[request.key] = view
        return [rendered[request.key] for request in requests]

    def _views(
        self, text: str, requests: Sequence[ViewRequest]
    ) -> list[tuple[ViewRequest, RenderedView]]:
        rngs = [np.random.default_rng(request.seed) for request in requests]
        viewports = [_viewport(rng) for rng in rngs]
        pixels, finite = self._draw(text, viewports)
        views = []
        for index, (request, rng, viewport) in enumerate(
            zip(requests, rngs, viewports, strict=True)
        ):
            picture, is_finite = pixels[index], bool(finite[index])
            number = request.variation["mix"]
            assert isinstance(number, int)
            if number > 1:
                picture, is_finite = self._mixed(picture, is_finite, number, rng)
            views.append((request, RenderedView(
                pixels=picture,
                is_finite=is_finite,
                values={
                    "time": viewport.time,
                    "viewport_x": viewport.x,
                    "viewport_y": viewport.y,
                    "zoom": viewport.zoom,
                },
            )))  # fmt: skip
        return views

    def _draw(
        self, text: str, viewports: "Sequence[Viewport]"
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        import torch

        from pipeline.renderers.image_programs.drawing import draw, read_program

        # One thread: operations on a few thousand pixels are slower on several.
        if self.device == "cpu" and torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        program = read_program(text)
        pixels, finite = draw(program, viewports, self.config.size_px, torch.device(self.device))
        return pixels.cpu().numpy(), finite.cpu().numpy()

    def _mixed(
        self, picture: NDArray[np.uint8], is_finite: bool, number: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], bool]:
        """A view averaged with views of other programs of this package."""
        pictures = [picture]
        for _ in range(number - 1):
            text = program_text(int(rng.integers(1 << 31)))
            others, finite = self._draw(text, [_viewport(rng)])
            pictures.append(others[0])
            is_finite = is_finite and bool(finite[0])
        weights = rng.dirichlet(np.ones(number))
        mean = np.tensordot(weights, np.stack(pictures).astype(np.float64), axes=1)
        levels: NDArray[np.uint8] = np.rint(mean).astype(np.uint8)
        return levels, is_finite


def _viewport(rng: np.random.Generator) -> "Viewport":
    """When and where a view looks, uniformly in the ranges above."""
    from pipeline.renderers.image_programs.drawing import Viewport

    return Viewport(
        time=float(rng.uniform(MIN_TIME, MAX_TIME)),
        x=float(rng.uniform(-MAX_SHIFT, MAX_SHIFT)),
        y=float(rng.uniform(-MAX_SHIFT, MAX_SHIFT)),
        zoom=float(rng.uniform(MIN_ZOOM, MAX_ZOOM)),
    )
