"""Colour jitter, grey, blur and flip of a whole batch, each image with its own draw.

It runs on the device that holds the batch, while loader workers only decode and cut
(docs/adr/0012-colours-on-the-device.md). Which images change how is worked out from the draws on
the CPU, so the host never waits for the device. No operation looks at a second image, so a crop
looks the same in any batch. Jitter equals torchvision's on floats.
"""

from itertools import permutations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from trainer.data.crops import COLOUR_FIELDS

_ORDERS = np.array(list(permutations(range(4))))
"""Which jitter comes in which of four rounds, [orders, rounds]."""
_LUMA = (0.2989, 0.587, 0.114)
"""ITU-R 601-2, as torchvision and PIL."""


def colour(
    images: UInt8[Tensor, "crops 3 height width"], draws: Float[np.ndarray, "crops fields"]
) -> Float[Tensor, "crops 3 height width"]:
    """Apply what was drawn for each crop.

    Args:
        images: Levels from 0 to 255, on any device.
        draws: Columns `COLOUR_FIELDS`.

    Returns:
        Levels from 0 to 255 on the device of the images, not normalised yet.
    """
    drawn = {name: draws[:, column] for column, name in enumerate(COLOUR_FIELDS)}
    jitters = _jitter_rows(drawn)
    chosen = [np.flatnonzero(drawn[name] > 0) for name in ("flip", "grey", "blur_sigma_px")]
    flipped, grey, blurred, *jittered = _on_device(
        [*chosen, *(rows for _, rows in jitters)], images.device
    )
    factors = copied(draws, images.device)
    # Mirror first, while a pixel has three bytes: what follows does not depend on left and right.
    if len(flipped):
        images = images.index_copy(0, flipped, images[flipped].flip(3))
    pixels = images.float()
    for (kind, _), rows in zip(jitters, jittered, strict=True):
        name, adjust = _ADJUST[kind]
        factor = factors[rows, COLOUR_FIELDS.index(name)].view(-1, 1, 1, 1)
        pixels.index_copy_(0, rows, adjust(pixels[rows], factor))
    if len(grey):
        pixels.index_copy_(0, grey, _luma(pixels[grey]).expand(-1, 3, -1, -1))
    if len(blurred):
        sigmas = drawn["blur_sigma_px"][chosen[2]]
        pixels.index_copy_(0, blurred, _blur(pixels[blurred], sigmas))
    return pixels


def _jitter_rows(drawn: dict[str, NDArray[np.float32]]) -> list[tuple[int, NDArray[np.int64]]]:
    """Jitters in the order of their rounds, each with the images that have it in that round.

    In each of the four rounds an image has another jitter, as its order says, so all images are
    done after at most 16 operations.
    """
    rows = np.flatnonzero(drawn["jitter"] > 0)
    orders = _ORDERS[drawn["order"][rows].astype(np.int64)]  # [jittered images, rounds]
    steps = [
        (kind, rows[orders[:, number] == kind])
        for number in range(4)
        for kind in range(len(_ADJUST))
    ]
    return [(kind, chosen) for kind, chosen in steps if len(chosen)]


def _on_device(parts: list[NDArray[np.int64]], device: torch.device) -> list[Tensor]:
    """Lists of rows on a device, by one copy."""
    packed = copied(np.concatenate(parts), device)
    return list(torch.split(packed, [len(part) for part in parts]))


def copied(values: NDArray[Any], device: torch.device) -> Tensor:
    """A tensor with these values on a device, without waiting for it."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":  # only from memory that is pinned does a copy go by itself
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _luma(pixels: Tensor) -> Tensor:
    red, green, blue = pixels.unbind(1)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return luma[:, None]


def _blend(pixels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other, pixels, factor).clamp_(0, 255)


def _brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    return (pixels * factor).clamp_(0, 255)


def _contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    return _blend(pixels, _luma(pixels).mean(dim=(2, 3), keepdim=True), factor)


def _saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    return _blend(pixels, _luma(pixels), factor)


def _hue(pixels: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by a part of the circle, -0.5 to 0.5, in HSV."""
    red, green, blue = pixels.unbind(1)
    highest, lowest = pixels.amax(1), pixels.amin(1)
    spread = highest - lowest
    safe = torch.where(spread == 0, torch.ones_like(spread), spread)  # grey has no hue: 0 / 1
    sector = torch.where(
        highest == red,
        (green - blue) / safe,
        torch.where(highest == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = (sector / 6 + shift.squeeze(1)) % 1.0
    # Back: each channel is the value minus the spread times a trapezoid over the hue (CSS Color 4).
    turned = []
    for offset in (5.0, 3.0, 1.0):
        sector = (offset + hue * 6) % 6
        weight = torch.minimum(sector, 4 - sector).clamp(0, 1)
        turned.append(highest - spread * weight)
    return torch.stack(turned, dim=1)


_ADJUST = (
    ("brightness", _brightness),
    ("contrast", _contrast),
    ("saturation", _saturation),
    ("hue", _hue),
)


def _blur(pixels: Tensor, sigmas: NDArray[np.float32]) -> Tensor:
    """Gaussian blur along both axes, three standard deviations wide, edges reflected.

    Args:
        pixels: [crops, 3, height, width].
        sigmas: Of each crop in px.
    """
    # A reflected edge has to be shorter than the image, so the kernel of a tiny one is cut.
    reach = min(int(np.ceil(3 * sigmas.max())), min(pixels.shape[2:]) - 1)
    taps = np.arange(-reach, reach + 1, dtype=np.float32)
    weights = np.exp(-0.5 * (taps / sigmas[:, None]) ** 2)
    # Each kernel ends at its own reach, so that no image depends on the largest sigma of the batch.
    weights *= np.abs(taps) <= np.ceil(3 * sigmas)[:, None]
    weights = np.repeat(weights / weights.sum(1, keepdims=True), 3, axis=0)
    kernels = copied(weights, pixels.device)[:, None, None]
    # One group of the convolution for each channel of each image: every image has its own kernel.
    count, _, height, width = pixels.shape
    flat = pixels.reshape(1, count * 3, height, width)
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), "reflect"), kernels, groups=count * 3)
    flat = F.pad(flat, (0, 0, reach, reach), "reflect")
    flat = F.conv2d(flat, kernels.transpose(2, 3), groups=count * 3)
    return flat.reshape(pixels.shape)
