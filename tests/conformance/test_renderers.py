"""The laws of pipeline.renderers, for every entry of the table and every family of models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from manifests.ids import canonical_text
from pipeline.errors import PipelineError
from pipeline.renderers import RENDERERS, Renderer
from pipeline.renderers.image_programs import ImagePrograms, ImageProgramsConfig
from pipeline.renderers.latent_neighbourhood import LatentNeighbourhood
from pipeline.renderers.latent_neighbourhood.config import LatentNeighbourhoodConfig
from pipeline.renderers.shaders import Shaders, ShadersConfig
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.testing.renderers import RendererLaws
from prompts.programs.accepted import program_text
from prompts.shaders.dialects import shader_of, to_text
from tests import tiny_generators
from tests.renderers import Faulty, FaultyConfig, Stripes, StripesConfig
from tests.views_of import requests

pytestmark = pytest.mark.slow

BATCH = 4
TESTED = {"text-to-image", "image-programs", "latent-neighbourhood", "shaders"}
"""A new entry of the table has to be added here, with a class below."""


def test_every_entry_is_tested() -> None:
    assert set(RENDERERS) == TESTED


class TextToImageLaws(RendererLaws):
    """The laws of renderers, and what is promised of text-to-image in addition."""

    model = "embedded"

    @pytest.fixture(autouse=True)
    def _models(self, tiny_models: dict[str, Path]) -> None:
        self.folder = str(tiny_models.get(self.model, self.model))

    def make(self) -> Renderer:
        return TextToImage(
            TextToImageConfig(
                steps=2, batch_size=BATCH, device="cpu", model=self.folder, guidance=(1.0, 4.0)
            )
        )

    def test_guidance_changes_a_view(self, renderer: Renderer) -> None:
        views = [
            renderer.render(requests(["a penguin"], views_per_subject=1, guidance=[scale]))[0]
            for scale in (1.0, 4.0)
        ]
        assert (views[0].pixels != views[1].pixels).any()

    def test_paired_views_of_one_scale_are_one_picture(self, renderer: Renderer) -> None:
        """Two variations of one scale differ in their noise alone, and paired views share it."""
        by_pairing = {
            paired: requests(["a penguin"], guidance=[4.0, 4.0], paired=paired)
            for paired in (True, False)
        }
        paired = [view.pixels for view in renderer.render(by_pairing[True])]
        np.testing.assert_array_equal(paired[0], paired[1])
        np.testing.assert_array_equal(paired[2], paired[3])
        assert (paired[0] != paired[2]).any()
        unpaired = {view.pixels.tobytes() for view in renderer.render(by_pairing[False])}
        assert len(unpaired) == 4


class TestEmbedded(TextToImageLaws):
    model = "embedded"


class TestStableDiffusion(TextToImageLaws):
    model = "sd"


class TestStableDiffusionXL(TextToImageLaws):
    model = "sdxl"


class TestPixArt(TextToImageLaws):
    model = "pixart"


class TestMixedNoise(RendererLaws):
    """Views around one latent of each caption."""

    def make(self) -> Renderer:
        return TextToImage(
            TextToImageConfig(steps=2, batch_size=BATCH, device="cpu", sigma=(0.3, 1.0))
        )


class TestSeveralSizes(RendererLaws):
    """Three shapes, dealt with two scales."""

    def make(self) -> Renderer:
        sizes = ((32, 32), (48, 32), (24, 40))
        return TextToImage(
            TextToImageConfig(
                steps=2, batch_size=BATCH, device="cpu", guidance=(1.0, 3.0), size_px=sizes
            )
        )


class TestImagePrograms(RendererLaws):
    texts = tuple(canonical_text(program_text(number)) for number in range(3))

    def make(self) -> Renderer:
        return ImagePrograms(
            ImageProgramsConfig(size_px=16, mix=(1, 3), batch_size=8, device="cpu")
        )


class TestShaders(RendererLaws):
    texts = tuple(to_text(shader_of(f"o=vec4(fract(FC.xy/r*{n}.+t),.{n},1);")) for n in range(1, 4))

    @pytest.fixture(autouse=True)
    def _opengl(self) -> None:
        pytest.importorskip("moderngl")
        try:
            self.make().identity()
        except PipelineError as exc:
            pytest.skip(str(exc))

    def make(self) -> Renderer:
        return Shaders(ShadersConfig(size_px=16, shift=0.2, zoom=1.5, batch_size=4))


class LatentLaws(RendererLaws):
    texts = ("anchor 0 of seed 0, class 0", "anchor 1 of seed 0, class 0", "anchor 0 of seed 1")
    keys: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _generator(self, tmp_path: Path) -> None:
        self.path = tiny_generators.export(tmp_path / "tiny.pt2", tiny_generators.Tiny())

    def make(self) -> Renderer:
        table = {"generator": str(self.path), "batch_size": BATCH, "device": "cpu", **self.keys}
        return LatentNeighbourhood(LatentNeighbourhoodConfig.model_validate(table))


class TestGaussianLatents(LatentLaws):
    keys: ClassVar = {**tiny_generators.STATED, "sigma": (0.2, 1.0), "keep_latents": True}


class TestAngularLatents(LatentLaws):
    keys: ClassVar = {**tiny_generators.STATED, "neighbourhood": "angular", "angle": (20.0, 60.0)}


class TestIndependentLatents(LatentLaws):
    keys: ClassVar = {**tiny_generators.STATED, "neighbourhood": "independent", "truncation": 2.0}


class TestDiffusionLatents(LatentLaws):
    keys: ClassVar = {"sigma": (0.3,), "steps": 2}

    @pytest.fixture(autouse=True)
    def _generator(self, tmp_path: Path) -> None:
        self.path = tiny_generators.ddim(tmp_path / "ddim", num_classes=2)


class TestStripes(RendererLaws):
    """A renderer of another kind: no captions, no guidance."""

    texts = ("0", "1", "2")

    def make(self) -> Renderer:
        return Stripes(StripesConfig(name="tests.renderers:Stripes"))


class TestFaulty(RendererLaws):
    """The renderer that other tests use to cause failures obeys the laws where it causes none."""

    def make(self) -> Renderer:
        return Faulty(FaultyConfig())
