"""The part of a picture that an encoder is evaluated on."""

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from trainer.frozen_encoders import Resampling

MAX_STRIP = 8
"""A picture longer than this many times its shorter side is first cut to its middle."""


def evaluation_crop(
    pixels: UInt8[np.ndarray, "height width 3"],
    *,
    input_px: int,
    crop_fraction: float,
    resampling: Resampling = "bicubic",
    squash: bool = False,
    always_resized: bool = False,
) -> UInt8[np.ndarray, "input_px input_px 3"]:
    """The middle square of a picture, as the encoder takes it.

    The shorter side (with `squash` both sides) becomes `input_px / crop_fraction` by an antialiased
    filter of Pillow: the pixels of the evaluation transforms of timm and open_clip. A picture that
    is already `input_px` square is left as it is, unless `always_resized` is set.
    """
    height, width, _ = pixels.shape
    if (height, width) == (input_px, input_px) and not always_resized:
        return pixels
    short = min(height, width)
    # Resized to `input_px` on its shorter side, a line of pixels would become a huge picture.
    if max(height, width) > MAX_STRIP * short and not squash:
        pixels = _middle(pixels, min(height, MAX_STRIP * short), min(width, MAX_STRIP * short))
        height, width, _ = pixels.shape
    short_px = int(input_px / crop_fraction)
    size = int(width * short_px / short), int(height * short_px / short)
    if squash:
        size = short_px, short_px
    by = Image.Resampling[resampling.upper()]
    resized = np.asarray(Image.fromarray(pixels).resize(size, by))
    return _middle(resized, input_px, input_px)


def _middle(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    top = round((pixels.shape[0] - height) / 2)
    left = round((pixels.shape[1] - width) / 2)
    return pixels[top : top + height, left : left + width]
