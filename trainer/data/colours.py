"""Colour jitter, grey, blur and flip of a whole batch, each image with its own draw.

On whatever device the batch is on: a CPU worker only decodes and cuts. Each operation touches an
image alone, so a crop looks the same in any batch. Jitter equals torchvision's on floats; tested.
"""

from itertools import permutations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from trainer.data.crops import COLOUR_FIELDS

_ORDERS = tuple(permutations(range(4)))
_LUMA = (0.2989, 0.587, 0.114)
"""ITU-R 601-2, as torchvision and PIL."""


def colour(
    images: UInt8[Tensor, "crops 3 height width"], draws: Float[Tensor, "crops fields"]
) -> Float[Tensor, "crops 3 height width"]:
    """The crops as the tower sees them, in levels of 0 to 255, not normalised yet.

    Args:
        draws: Columns `COLOUR_FIELDS`.
    """
    drawn = dict(zip(COLOUR_FIELDS, draws.unbind(1), strict=True))
    pixels = images.float() / 255
    pixels = _jitter(pixels, drawn)
    grey = drawn["grey"].view(-1, 1, 1, 1) > 0
    pixels = torch.where(grey, _luma(pixels), pixels)
    pixels = _blur(pixels, drawn["blur_sigma_px"])
    flip = drawn["flip"].view(-1, 1, 1, 1) > 0
    return torch.where(flip, pixels.flip(3), pixels) * 255


def _jitter(pixels: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """Brightness, contrast, saturation and hue, in the order that each image drew."""
    orders = torch.tensor(_ORDERS, device=pixels.device)[drawn["order"].long()]  # [B, 4]
    is_on = drawn["jitter"] > 0
    pixels = pixels.clone()
    for place in range(4):
        for kind, (name, adjust) in enumerate(_ADJUST.items()):
            rows = torch.nonzero((orders[:, place] == kind) & is_on).squeeze(1)
            if len(rows):
                factor = drawn[name][rows].view(-1, 1, 1, 1)
                pixels[rows] = adjust(pixels[rows], factor)
    return pixels


def _luma(pixels: Tensor) -> Tensor:
    red, green, blue = pixels.unbind(1)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return luma[:, None]


def _blend(pixels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * pixels + (1 - factor) * other).clamp_(0, 1)


def _brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    return (pixels * factor).clamp_(0, 1)


def _contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    return _blend(pixels, _luma(pixels).mean(dim=(2, 3), keepdim=True), factor)


def _saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    return _blend(pixels, _luma(pixels), factor)


def _hue(pixels: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by a part of the circle, -0.5 to 0.5, in HSV."""
    red, green, blue = pixels.unbind(1)
    highest, lowest = pixels.amax(1), pixels.amin(1)
    spread = highest - lowest
    safe = torch.where(spread == 0, torch.ones_like(spread), spread)
    sector = torch.where(
        highest == red,
        (green - blue) / safe,
        torch.where(highest == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = (sector / 6 + shift.squeeze(1)) % 1.0
    # Back: each channel is the value minus the spread times a trapezoid over the hue (CSS Color 4).
    turned = []
    for offset in (5.0, 3.0, 1.0):
        place = (offset + hue * 6) % 6
        weight = torch.minimum(place, 4 - place).clamp(0, 1)
        turned.append(highest - spread * weight)
    return torch.stack(turned, dim=1).clamp_(0, 1)


_ADJUST = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}


def _blur(pixels: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussian blur along both axes, three standard deviations wide, edges reflected."""
    rows = torch.nonzero(sigmas > 0).squeeze(1)
    if not len(rows):
        return pixels
    chosen, sigma = pixels[rows], sigmas[rows]
    reach = min(int(torch.ceil(3 * sigma.max())), min(pixels.shape[2:]) - 1)
    taps = torch.arange(-reach, reach + 1, device=pixels.device, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    # Each image ends its own kernel: the reach of the batch must not show.
    kernels = kernels * (taps.abs() <= torch.ceil(3 * sigma)[:, None])
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, dim=0)[:, None, None]
    count, _, height, width = chosen.shape
    flat = chosen.reshape(1, count * 3, height, width)
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), "reflect"), kernels, groups=count * 3)
    flat = F.pad(flat, (0, 0, reach, reach), "reflect")
    flat = F.conv2d(flat, kernels.transpose(2, 3), groups=count * 3)
    pixels = pixels.clone()
    pixels[rows] = flat.reshape(chosen.shape)
    return pixels
