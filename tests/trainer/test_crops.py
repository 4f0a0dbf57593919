"""Crops are drawn as by torchvision's RandomResizedCrop, but from ids and not from a state."""

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from trainer.data.augment import AugmentConfig
from trainer.data.crops import COLOUR_FIELDS, crop_box, cut, draw_crop
from trainer.data.draws import generator


def draws(config: AugmentConfig, count: int = 4000) -> list:
    return [draw_crop(generator("crop", 0, i), config) for i in range(count)]


@pytest.mark.parametrize(("width", "height"), [(256, 256), (320, 200), (64, 300)])
def test_boxes_have_torchvisions_distribution(width: int, height: int) -> None:
    config = AugmentConfig()
    ours = np.array([crop_box(draw, width, height) for draw in draws(config)])
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = np.array(
        [
            RandomResizedCrop.get_params(image, list(config.crop_scale), list(config.crop_ratio))
            for _ in range(4000)
        ]
    )[:, [1, 0, 3, 2]]
    assert (ours[:, 0] + ours[:, 2] <= width).all()
    assert (ours[:, 1] + ours[:, 3] <= height).all()
    for column in range(4):
        quantiles = np.linspace(0.05, 0.95, 10)
        our_quantiles, their_quantiles = (
            np.quantile(boxes[:, column], quantiles) for boxes in (ours, theirs)
        )
        assert np.abs(our_quantiles - their_quantiles).max() < 0.05 * max(width, height)
    areas = ours[:, 2] * ours[:, 3] / (width * height)
    expected = theirs[:, 2] * theirs[:, 3] / (width * height)
    assert areas.mean() == pytest.approx(expected.mean(), abs=0.015)


def test_probabilities_are_those_of_the_recipe() -> None:
    config = AugmentConfig(flip_prob=0.25, jitter_prob=0.7, grey_prob=0.1, blur_prob=0.4)
    values = dict(zip(COLOUR_FIELDS, np.stack([d.colours for d in draws(config)]).T, strict=True))
    assert values["flip"].mean() == pytest.approx(0.25, abs=0.03)
    assert values["jitter"].mean() == pytest.approx(0.7, abs=0.03)
    assert values["grey"].mean() == pytest.approx(0.1, abs=0.03)
    blurred = values["blur_sigma_px"] > 0
    assert blurred.mean() == pytest.approx(0.4, abs=0.03)
    assert values["blur_sigma_px"][blurred].min() >= 0.1
    assert values["blur_sigma_px"].max() <= 2.0
    for name in ("brightness", "contrast", "saturation"):
        assert (values[name].min(), values[name].max()) == pytest.approx((0.6, 1.4), abs=0.01)
    assert (values["hue"].min(), values["hue"].max()) == pytest.approx((-0.1, 0.1), abs=0.01)
    assert set(values["order"].tolist()) == set(range(24))


def test_downsampling_goes_through_a_drawn_size() -> None:
    config = AugmentConfig(downsample_prob=0.5, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    sizes = [draw.downsample_px for draw in draws(config)]
    assert {size: sizes.count(size) / len(sizes) for size in (64, 128)} == pytest.approx(
        {64: 0.25, 128: 0.25}, abs=0.03
    )
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    by_size = {draw.downsample_px: draw for draw in draws(config, 50)}
    detail = {
        size: float(cut(pixels, draw, 256)[0].float().std()) for size, draw in by_size.items()
    }
    assert detail[0] > detail[128] > detail[64]
    assert torch.equal(cut(pixels, by_size[0], 256)[0], torch.from_numpy(pixels).permute(2, 0, 1))


def test_crop_is_the_part_that_was_drawn() -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    draw = draws(AugmentConfig(crop_scale=(0.2, 0.3)), 1)[0]
    left, top, wide, high = crop_box(draw, 60, 40)
    pixels[top : top + high, left : left + wide] = 255
    crop, box = cut(pixels, draw, 16)
    assert int(crop.min()) == 255
    assert (box * [60, 40, 60, 40]).round().tolist() == [left, top, wide, high]


def test_draws_depend_on_what_they_are_for() -> None:
    values = {
        generator("crop", *numbers).random() for numbers in ((0, 1), (1, 0), (0, 0), (0, 1, 0))
    }
    assert len(values) == 4
    assert generator("crop", 5, -7).random() == generator("crop", 5, -7).random()
    assert generator("views", 5).random() != generator("crop", 5).random()
