"""Views around a latent of text-to-image models: noise is mixed, all else is the stock call."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from manifests.ids import NUM_SEEDS
from manifests.plan import ViewRequest
from pipeline.errors import ModelError
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.testing.requests import requests_for
from tests.tiny_models import FAMILIES, SIZE_PX


def renderer(model: object, sigma: Sequence[float], **more: Any) -> TextToImage:
    options = {"steps": 2, "batch_size": 4, "device": "cpu", "guidance": (2.0,)} | more
    return TextToImage(TextToImageConfig(model=str(model), sigma=tuple(sigma), **options))


def requests(of: TextToImage, caption: str = "a red fox", views: int = 4) -> list[ViewRequest]:
    return requests_for(
        [caption], columns=of.columns(), variations=of.variations(), views_per_subject=views
    )


def stock(model: Path, seeds: Sequence[int], **more: Any) -> list[np.ndarray]:
    pipe = diffusers.DiffusionPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    extra = {"clean_caption": False, "use_resolution_binning": False}
    images = pipe(
        "a red fox",
        num_images_per_prompt=len(seeds),
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        guidance_scale=2.0,
        num_inference_steps=2,
        height=SIZE_PX,
        width=SIZE_PX,
        **(extra if "PixArt" in type(pipe).__name__ else {}),
        **more,
    ).images
    return [np.asarray(image) for image in images]


@pytest.mark.parametrize("family", FAMILIES)
def test_sigma_1_is_the_stock_view_and_0_the_captions_anchor(
    family: str, tiny_models: dict[str, Path]
) -> None:
    model = tiny_models[family]
    independent = renderer(model, [1.0])
    wanted = requests(independent)
    expected = stock(model, [request.seed for request in wanted])
    for view, image in zip(independent.render(wanted), expected, strict=True):
        np.testing.assert_array_equal(view.pixels, image)
    anchor = wanted[0].subject.group_id % NUM_SEEDS
    anchors = renderer(model, [0.0])
    for view, image in zip(
        anchors.render(requests(anchors)), stock(model, [anchor] * 4), strict=True
    ):
        np.testing.assert_array_equal(view.pixels, image)


def test_noise_between_is_the_stock_call_with_mixed_latents(tiny_models: dict[str, Path]) -> None:
    model = tiny_models["sd"]
    near = renderer(model, [0.6])
    wanted = requests(near)

    def noise(seed: int) -> torch.Tensor:
        config = diffusers.DiffusionPipeline.from_pretrained(model).unet.config
        shape = (1, config.in_channels, config.sample_size, config.sample_size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    anchor = noise(wanted[0].subject.group_id % NUM_SEEDS)
    latents = torch.cat([0.8 * anchor + 0.6 * noise(request.seed) for request in wanted])
    expected = stock(model, [request.seed for request in wanted], latents=latents)
    for view, image in zip(near.render(wanted), expected, strict=True):
        assert np.abs(view.pixels.astype(int) - image.astype(int)).max() <= 1


def test_sigmas_are_dealt_with_the_scales_and_a_set_without_has_no_column(
    tiny_models: dict[str, Path],
) -> None:
    both = renderer(tiny_models["sd"], [0.2, 1.0], guidance=(1.0, 3.0))
    assert both.variations() == [
        {"guidance_scale": scale, "sigma": sigma} for scale in (1.0, 3.0) for sigma in (0.2, 1.0)
    ]
    plain = renderer(tiny_models["sd"], [])
    assert {column.name for column in both.columns()} - {
        column.name for column in plain.columns()
    } == {"sigma"}
    assert "noise" not in plain.identity()
    assert both.identity()["noise"] == "mixed"


def test_a_scheduler_that_draws_noise_is_refused(tiny_models: dict[str, Path]) -> None:
    wild = renderer(tiny_models["sd"], [0.5], scheduler="EulerAncestralDiscreteScheduler")
    with pytest.raises(ModelError, match="EulerAncestralDiscreteScheduler draws noise"):
        wild.render(requests(wild))
    # And the pipeline is as it was: views with noise of their own are the stock ones.
    tame = renderer(tiny_models["sd"], [0.5], scheduler="DDIMScheduler")
    assert len(tame.render(requests(tame))) == 4


@pytest.mark.parametrize("sigma", [-0.1, 1.1])
def test_a_sigma_outside_of_0_to_1(sigma: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        TextToImageConfig(sigma=(sigma,))
