"""Batched colour operations against torchvision, one image at a time."""

from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as V

from trainer.data.augment import AugmentConfig
from trainer.data.colours import colour
from trainer.data.crops import COLOUR_FIELDS, draw_crop
from trainer.data.draws import generator

NOTHING = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0}


def pictures(count: int = 6, size: int = 17) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def drawn(count: int = 6, **values: float) -> NDArray[np.float32]:
    row = [{**NOTHING, **values}.get(name, 0.0) for name in COLOUR_FIELDS]
    return np.array([row] * count, dtype=np.float32)


ADJUST = {
    "brightness": V.adjust_brightness,
    "contrast": V.adjust_contrast,
    "saturation": V.adjust_saturation,
    "hue": V.adjust_hue,
}


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        (name, factor)
        for name in ADJUST
        for factor in ((-0.1, 0.0, 0.1) if name == "hue" else (0.6, 1.4))
    ],
)
def test_jitter_equals_torchvision(name: str, factor: float) -> None:
    images = pictures()
    coloured = colour(images, drawn(jitter=1.0, **{name: factor}))
    expected = torch.stack([ADJUST[name](image.float() / 255, factor) for image in images]) * 255
    torch.testing.assert_close(coloured, expected, atol=2e-3, rtol=0)


def test_the_four_jitters_come_in_the_order_that_was_drawn() -> None:
    images = pictures(1)
    factors = {"brightness": 1.3, "contrast": 0.7, "saturation": 1.4, "hue": 0.08}
    for number, order in enumerate(permutations(range(4))):
        expected = images[0].float() / 255
        for kind in order:
            name = tuple(factors)[kind]
            expected = ADJUST[name](expected, factors[name])
        coloured = colour(images, drawn(1, jitter=1.0, order=float(number), **factors))
        torch.testing.assert_close(coloured[0], expected * 255, atol=5e-3, rtol=0)


def test_grey_has_three_equal_channels_of_luma() -> None:
    images = pictures()
    coloured = colour(images, drawn(grey=1.0))
    expected = V.rgb_to_grayscale(images.float(), num_output_channels=3)
    torch.testing.assert_close(coloured, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0])
def test_blur_equals_torchvision(sigma: float) -> None:
    images = pictures(size=33)
    size = 2 * int(np.ceil(3 * sigma)) + 1
    coloured = colour(images, drawn(blur_sigma_px=sigma))
    expected = V.gaussian_blur(images.float(), [size, size], [sigma, sigma])
    torch.testing.assert_close(coloured, expected, atol=2e-3, rtol=0)


def test_flip_mirrors() -> None:
    images = pictures()
    torch.testing.assert_close(colour(images, drawn(flip=1.0)), images.flip(3).float())


def test_crop_is_unchanged_when_nothing_is_drawn() -> None:
    images = pictures()
    torch.testing.assert_close(colour(images, drawn()), images.float(), atol=1e-4, rtol=0)


def test_a_crop_looks_the_same_in_any_batch() -> None:
    """Bit for bit, except for the last bits of a convolution."""
    images = pictures(24, 32)
    config = AugmentConfig()
    draws = np.stack([draw_crop(generator("test", i), config).colours for i in range(24)])
    whole = colour(images, draws)
    alone = torch.cat([colour(images[i : i + 1], draws[i : i + 1]) for i in range(24)])
    torch.testing.assert_close(whole, alone, atol=2e-4, rtol=0)
