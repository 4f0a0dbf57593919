"""Guidance on a part of the steps: the others are those of the same model without guidance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from manifests.foundation.errors import ConfigError
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.renderers.text_to_image.guidance_interval import GUIDED_AS_ONE_BATCH, guided_within
from tests.tiny_models import ALL_FAMILIES, FAMILIES, SIZE_PX, build
from tests.views_of import requests

STEPS = 4


def renderer(model: object, **more: Any) -> TextToImage:
    options = {"steps": STEPS, "batch_size": 2, "device": "cpu", "guidance": (4.0,)} | more
    return TextToImage(TextToImageConfig(model=str(model), **options))


def pixels(of: TextToImage) -> np.ndarray:
    views = of.render(requests(["a red fox"], views_per_subject=2, guidance=[4.0]))
    return np.stack([view.pixels for view in views]).astype(int)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_interval_and_none_of_it_are_the_stock_pipelines(
    family: str, tiny_models: dict[str, Path]
) -> None:
    model = tiny_models[family]
    guided = pixels(renderer(model))
    np.testing.assert_array_equal(pixels(renderer(model, guidance_interval=(0.0, 1.0))), guided)
    # Of a thousandth of the steps there is one, the first, which is guided; most of it is not.
    once = pixels(renderer(model, guidance_interval=(0.0, 0.001)))
    assert (once != guided).any()


def test_steps_outside_are_those_without_guidance(tiny_models: dict[str, Path]) -> None:
    """A reference by hand: a pipeline whose scale changes from step to step."""
    pipe = DiffusionPipeline.from_pretrained(tiny_models["sd"])
    pipe.set_progress_bar_config(disable=True)

    def change(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        # Still guided by its properties, so both halves are computed; at scale 1 the first cancels.
        pipe._guidance_scale = 4.0 if 1 <= step + 1 < 3 else 1.0 + 1e-12
        return values

    wanted = requests(["a red fox"], views_per_subject=2, guidance=[4.0])
    expected = pipe(
        "a red fox",
        num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(request.seed) for request in wanted],
        guidance_scale=1.0 + 1e-12,
        num_inference_steps=STEPS,
        height=SIZE_PX,
        width=SIZE_PX,
        callback_on_step_end=change,
    ).images
    ours = pixels(renderer(tiny_models["sd"], guidance_interval=(0.25, 0.75)))
    for view, image in zip(ours, expected, strict=True):
        assert np.abs(view - np.asarray(image).astype(int)).max() <= 1


def test_a_view_does_not_depend_on_its_neighbours(tiny_models: dict[str, Path]) -> None:
    some = renderer(tiny_models["sd"], guidance_interval=(0.25, 0.75), guidance=(1.0, 4.0))
    wanted = requests()
    for request, view in zip(wanted, some.render(wanted), strict=True):
        np.testing.assert_array_equal(some.render([request])[0].pixels, view.pixels)


def test_it_is_part_of_the_identity_where_it_acts(tiny_models: dict[str, Path]) -> None:
    identity = renderer(tiny_models["sd"], guidance_interval=(0.2, 0.8)).identity()
    assert identity["guidance_interval"] == [0.2, 0.8]
    assert "guidance_interval" not in renderer(tiny_models["sd"]).identity()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("qwen-image", {}, "QwenImagePipeline is not known to guide by one batch"),
        ("lumina", {}, "LuminaPipeline is not known to guide by one batch"),
        ("sd", {"guidance": (1.0,)}, "no view is guided"),
    ],
)
def test_it_is_refused_where_it_would_be_wrong_or_do_nothing(
    model: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = build(model, tmp_path / model)
    with pytest.raises(ConfigError, match=message):
        renderer(folder, guidance_interval=(0.2, 0.8), size_px=32, **options).check([])


PROVEN = ("sd", "sdxl", "sd3", "kolors", "pixart", "pixart-sigma", "sana")


def test_every_class_of_the_list_is_proven() -> None:
    assert len(PROVEN) == len(GUIDED_AS_ONE_BATCH)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", PROVEN)
def test_a_step_outside_is_that_of_the_caption_alone(family: str, tmp_path: Path) -> None:
    """With no step inside, a guided call gives the pictures of a call without guidance."""
    pipe = DiffusionPipeline.from_pretrained(build(family, tmp_path / family))
    assert type(pipe).__name__ in GUIDED_AS_ONE_BATCH
    pipe.set_progress_bar_config(disable=True)

    def call(scale: float) -> np.ndarray:
        return pipe(
            "a red fox",
            num_images_per_prompt=2,
            generator=[torch.Generator().manual_seed(seed) for seed in range(2)],
            guidance_scale=scale,
            num_inference_steps=2,
            height=SIZE_PX,
            width=SIZE_PX,
            output_type="np",
            **ALL_FAMILIES[family].options,
        ).images

    free, guided = call(1.0), call(6.0)
    with guided_within(pipe, (0.0, 0.0), 2):
        outside = call(6.0)
    assert np.abs(outside - free).max() < 1e-4
    assert np.abs(guided - free).max() > 1e-3


@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_an_interval_that_is_none_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the first below the second"):
        TextToImageConfig(guidance_interval=interval)
