"""Colour jitter, grey, blur and flip of a whole batch, each image with its own draw.

It runs on the device that holds the batch, while loader workers only decode and cut
(docs/adr/0012-colours-on-the-device.md). No operation looks at a second image, so a crop looks the
same in any batch. Jitter equals torchvision's on floats.
"""

from collections.abc import Callable
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
    """Apply what was drawn for each crop.

    Args:
        images: Levels from 0 to 255.
        draws: Columns `COLOUR_FIELDS`.

    Returns:
        Levels from 0 to 255, not normalised yet.
    """
    drawn = dict(zip(COLOUR_FIELDS, draws.unbind(1), strict=True))
    # Mirror first, while a pixel has three bytes: what follows does not depend on left and right.
    images = _where(drawn["flip"] > 0, images, lambda part, rows: part.flip(3))
    pixels = images.float()
    # Images that are jittered in the same order go through together, in at most 24 rounds.
    orders = torch.where(drawn["jitter"] > 0, drawn["order"], torch.full_like(draws[:, 0], -1.0))
    for number in torch.unique(orders).tolist():
        if number >= 0:
            pixels = _where(
                orders == number,
                pixels,
                lambda part, rows: _jitter(part, _ORDERS[int(number)], drawn, rows),  # noqa: B023
            )
    pixels = _where(drawn["grey"] > 0, pixels, lambda part, rows: _luma(part).expand_as(part))
    return _where(
        drawn["blur_sigma_px"] > 0,
        pixels,
        lambda part, rows: _blur(part, drawn["blur_sigma_px"][rows]),
    )


def _where(is_chosen: Tensor, pixels: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Change the chosen images and leave the others; nothing is computed for the others.

    Args:
        is_chosen: [crops].
        pixels: [crops, 3, height, width].
        change: Called with the chosen images and with their rows.
    """
    rows = torch.nonzero(is_chosen).squeeze(1)
    if not len(rows):
        return pixels
    changed = change(pixels[rows], rows)
    return changed if len(rows) == len(pixels) else pixels.index_copy(0, rows, changed)


def _jitter(
    pixels: Tensor, order: tuple[int, ...], drawn: dict[str, Tensor], rows: Tensor
) -> Tensor:
    """Brightness, contrast, saturation and hue, one after the other."""
    for kind in order:
        name, adjust = _ADJUST[kind]
        pixels = adjust(pixels, drawn[name][rows].view(-1, 1, 1, 1))
    return pixels


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


def _blur(pixels: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussian blur along both axes, three standard deviations wide, edges reflected."""
    # A reflected edge has to be shorter than the image, so the kernel of a tiny one is cut.
    reach = min(int(torch.ceil(3 * sigmas.max())), min(pixels.shape[2:]) - 1)
    taps = torch.arange(-reach, reach + 1, device=pixels.device, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (taps / sigmas[:, None]) ** 2)
    # Each kernel ends at its own reach, so that no image depends on the largest sigma of the batch.
    kernels = kernels * (taps.abs() <= torch.ceil(3 * sigmas)[:, None])
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, dim=0)[:, None, None]
    # One group of the convolution for each channel of each image: every image has its own kernel.
    count, _, height, width = pixels.shape
    flat = pixels.reshape(1, count * 3, height, width)
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), "reflect"), kernels, groups=count * 3)
    flat = F.pad(flat, (0, 0, reach, reach), "reflect")
    flat = F.conv2d(flat, kernels.transpose(2, 3), groups=count * 3)
    return flat.reshape(pixels.shape)
