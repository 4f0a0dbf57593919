"""Deep features that are kept over steps: those of the last whole step, computed no more."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel

from manifests.foundation.errors import ConfigError
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.renderers.text_to_image.feature_cache import cached_features
from tests.tiny_models import build
from tests.views_of import requests

STEPS = 4


def renderer(model: object, **more: Any) -> TextToImage:
    options = {"steps": STEPS, "batch_size": 2, "device": "cpu", "guidance": (4.0,)} | more
    return TextToImage(TextToImageConfig(model=str(model), **options))


def pixels(of: TextToImage, num_views: int = 2) -> np.ndarray:
    views = of.render(requests(["a red fox"], views_per_subject=num_views, guidance=[4.0]))
    return np.stack([view.pixels for view in views]).astype(int)


@pytest.fixture
def unet(tiny_models: dict[str, Path]) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(tiny_models["sd"], subfolder="unet").eval()


@torch.no_grad()
def reference(
    unet: UNet2DConditionModel, sample: torch.Tensor, step: int, text: torch.Tensor, kept: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step with kept deep features (or none), block by block, in the words of the paper.

    The tiny U-Net has two levels and one layer in each.
    """
    emb = unet.time_embedding(unet.time_proj(torch.tensor([step] * len(sample))))
    hidden = first = unet.conv_in(sample)
    hidden, (outer, lower) = unet.down_blocks[0](hidden_states=hidden, temb=emb)
    if kept is None:
        down, up = unet.down_blocks[1], unet.up_blocks[0]
        deep, (inner,) = down(hidden_states=hidden, temb=emb, encoder_hidden_states=text)
        deep = unet.mid_block(deep, emb, encoder_hidden_states=text)
        kept = up(deep, (lower, inner), emb, encoder_hidden_states=text)
    hidden = unet.up_blocks[1](kept, (first, outer), emb)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden))), kept


def test_steps_between_take_the_deep_features_of_the_last_whole_one(
    unet: UNet2DConditionModel,
) -> None:
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(2, 5, 32, generator=generator)
    kept, plain = None, copy.deepcopy(unet)
    with cached_features(unet, 3), torch.no_grad():
        for step in range(7):
            sample = torch.randn(2, 4, 16, 16, generator=generator)
            out = unet(sample, step, encoder_hidden_states=text).sample
            expected, kept = reference(plain, sample, step, text, None if step % 3 == 0 else kept)
            torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    stock = unet(sample, 1, encoder_hidden_states=text).sample
    torch.testing.assert_close(stock, reference(unet, sample, 1, text, None)[0])


def test_another_number_of_views_is_a_whole_step(unet: UNet2DConditionModel) -> None:
    text, plain = torch.randn(2, 5, 32), copy.deepcopy(unet)
    with cached_features(unet, 10), torch.no_grad():
        for num_views in (2, 1):
            sample = torch.randn(num_views, 4, 16, 16)
            out = unet(sample, 1, encoder_hidden_states=text[:num_views]).sample
            whole = reference(plain, sample, 1, text[:num_views], None)[0]
            torch.testing.assert_close(out, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_it_changes_pixels_and_no_view_depends_on_its_neighbours(
    family: str, tiny_models: dict[str, Path]
) -> None:
    model = tiny_models[family]
    cached = renderer(model, feature_cache=2)
    assert cached.identity() != renderer(model).identity()
    assert (pixels(cached) != pixels(renderer(model))).any()
    np.testing.assert_array_equal(pixels(cached)[0], pixels(cached, num_views=1)[0])
    # The pipeline that a renderer has used is as it was.
    np.testing.assert_array_equal(pixels(cached), pixels(renderer(model, feature_cache=2)))


def test_it_goes_with_a_guidance_interval(tiny_models: dict[str, Path]) -> None:
    views = pixels(renderer(tiny_models["sd"], feature_cache=2, guidance_interval=(0.0, 0.5)))
    assert (views != pixels(renderer(tiny_models["sd"], feature_cache=2))).any()


def test_a_model_without_a_unet_is_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    for model in (tiny_models["pixart"], build("kandinsky3", tmp_path / "kandinsky3")):
        with pytest.raises(ConfigError, match=r"renderer\.feature_cache: only for a UNet2D"):
            renderer(model, feature_cache=2, size_px=64).check([])


def test_the_modules_of_a_pipeline_are_left_as_they_were(tiny_models: dict[str, Path]) -> None:
    pipe = DiffusionPipeline.from_pretrained(tiny_models["sd"])
    with pytest.raises(ZeroDivisionError), cached_features(pipe.unet, 2):
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in pipe.unet.modules())
    # As accelerate leaves it, where it moves a part to the GPU before it computes.
    hook = pipe.unet.forward
    pipe.unet.forward = hook
    with cached_features(pipe.unet, 2):
        assert vars(pipe.unet)["forward"] is not hook
    assert vars(pipe.unet)["forward"] is hook
