"""Guidance on a part of the steps: the others are those of the same model without guidance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from pipeline.errors import ModelError
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from tests.tiny_models import FAMILIES, SIZE_PX, build
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


def test_a_class_that_guides_in_another_way_is_refused(tmp_path: Path) -> None:
    model = build("qwen-image", tmp_path / "qwen")
    with pytest.raises(ModelError, match="does not guide by one batch of twice the size"):
        pixels(renderer(model, guidance_interval=(0.2, 0.8), size_px=32))


@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_an_interval_that_is_none_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the first below the second"):
        TextToImageConfig(guidance_interval=interval)
