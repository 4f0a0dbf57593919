"""Random crops: drawn and cut here, on the CPU; `colours` does the rest on the device.

Order and ranges are those of StableRep (main_stablerep.py of google-research/syn-rep-learn):
downsampling with a small probability, random resized crop, colour jitter, grey, blur, flip.
"""

from dataclasses import dataclass
from math import exp

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as V

from trainer.data.augment import AugmentConfig

_ATTEMPTS = 10  # as in torchvision


@dataclass(frozen=True, slots=True)
class CropDraw:
    """One crop of one view.

    All numbers are drawn even if they are not used, so switching one augmentation off does not
    change what is drawn for the others.
    """

    downsample_px: int
    """Shorter side that the view is shrunk to before it is cut; 0 for no shrinking."""
    sizes: NDArray[np.float64]
    """Ten pairs of area and log ratio, [10, 2]: the first pair that fits into the view is taken."""
    ratios: tuple[float, float]
    """Smallest and largest width over height, for a view into which no pair fits."""
    left: float
    """Where the crop lies between the left edge and the right one, from 0 to 1."""
    top: float
    """Where the crop lies between the upper edge and the lower one, from 0 to 1."""
    colours: NDArray[np.float32]
    """`COLOUR_FIELDS`."""


COLOUR_FIELDS = (
    "flip",
    "jitter",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "order",
    "grey",
    "blur_sigma_px",
)
"""Columns of `CropDraw.colours`. flip, jitter and grey are 0 or 1; hue is a part of the circle; a
sigma of 0 is no blur; `order` is one of the 24 orders of the four jitters."""

BOX_FIELDS = ("left", "top", "width", "height")
"""Columns that say which part of its view a crop is, each as a fraction of the view's side."""


def draw_crop(rng: np.random.Generator, config: AugmentConfig) -> CropDraw:
    """Draw one crop; takes equally many numbers from `rng` whatever the settings are."""
    u = rng.random(14)
    # The ratio is drawn on a log scale, so that wide and tall crops are equally likely.
    low = config.crop_scale[0], np.log(config.crop_ratio[0])
    high = config.crop_scale[1], np.log(config.crop_ratio[1])

    def between(value: float, low: float, high: float) -> float:
        return low + float(value) * (high - low)

    def factor(value: float, strength: float) -> float:
        return between(value, 1 - strength, 1 + strength)

    sizes = config.downsample_px
    blur = between(u[12], *config.blur_sigma_px) if u[13] < config.blur_prob else 0.0
    return CropDraw(
        downsample_px=sizes[int(u[1] * len(sizes))] if u[0] < config.downsample_prob else 0,
        sizes=rng.uniform(low, high, size=(_ATTEMPTS, 2)),
        ratios=config.crop_ratio,
        left=float(u[2]),
        top=float(u[3]),
        colours=np.array(
            [
                u[4] < config.flip_prob,
                u[5] < config.jitter_prob,
                factor(u[6], config.brightness),
                factor(u[7], config.contrast),
                factor(u[8], config.saturation),
                between(u[9], -config.hue, config.hue),
                int(u[10] * 24),
                u[11] < config.grey_prob,
                blur,
            ],
            dtype=np.float32,
        ),
    )


def crop_box(draw: CropDraw, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height in px, with the distribution of torchvision's RandomResizedCrop.

    When none of ten sizes fits, the largest central crop within the ratios is taken.
    """
    for area, log_ratio in draw.sizes.tolist():
        ratio = exp(log_ratio)
        wide = round((area * width * height * ratio) ** 0.5)
        high = round((area * width * height / ratio) ** 0.5)
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(draw.left * (width - wide + 1)), int(draw.top * (height - high + 1))
            return left, top, wide, high
    lowest, highest = draw.ratios
    wide = min(width, max(round(height * highest), 1))
    high = min(height, max(round(width / lowest), 1))
    return (width - wide) // 2, (height - high) // 2, wide, high


def cut(
    pixels: NDArray[np.uint8], draw: CropDraw, input_px: int
) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """Cut a crop out of a view.

    Args:
        pixels: The view, [height, width, 3].
        draw: What was drawn for it.
        input_px: Side of the crop.

    Returns:
        uint8 [3, input_px, input_px], and float32 [4] with `BOX_FIELDS`.
    """
    if not pixels.flags.writeable:  # torch warns of an array that it may not write to
        pixels = pixels.copy()
    image = torch.from_numpy(pixels).permute(2, 0, 1)  # channels last in memory: the fast kernel
    height, width = image.shape[1:]
    # The whole view is shrunk and enlarged again, so detail is lost but the crop box still fits.
    if 0 < draw.downsample_px < min(height, width):
        small = V.resize(image, [draw.downsample_px], antialias=True)
        image = V.resize(small, [height, width], antialias=True)
    left, top, wide, high = crop_box(draw, width, height)
    part = image[:, top : top + high, left : left + wide]
    crop: torch.Tensor = V.resize(part, [input_px, input_px], antialias=True)
    box = np.array([left / width, top / height, wide / width, high / height], dtype=np.float32)
    return crop, box
