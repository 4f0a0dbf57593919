"""Functions that give colours."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.renderers.image_programs.functions.numbers import mix
from pipeline.renderers.image_programs.functions.table import Colour, function

Palette = Tensor
"""Colours at PALETTE_STEPS places from 0 to 1, [steps, 3]; the last runs into the first."""
PALETTE_STEPS = 256


@function("number colours -> colour")
def ramp(value: Tensor, palette: Palette) -> Colour:
    """Colours along a closed ring, once around in a unit."""
    part = torch.remainder(torch.nan_to_num(value), 1)
    index = (part * PALETTE_STEPS).long().clamp(0, PALETTE_STEPS - 1)
    red, green, blue = (channel[index] for channel in palette.T.contiguous())
    return red, green, blue


@function("number number number -> colour")
def hue(turn: Tensor, saturation: Tensor, value: Tensor) -> Colour:
    """Red at 0, green at 1/3, blue at 2/3; grey at saturation 0, black at value 0."""
    channels = []
    for shift in (0.0, 2 / 3, 1 / 3):
        part = (6 * torch.remainder(turn + shift, 1) - 3).abs() - 1
        channels.append(value * (1 + saturation * (part.clamp(0, 1) - 1)))
    return channels[0], channels[1], channels[2]


@function("colour colour number -> colour")
def blend(one: Colour, other: Colour, amount: Tensor) -> Colour:
    """From one colour at 0 to the other at 1."""
    a, b, c = (mix(first, second, amount) for first, second in zip(one, other, strict=True))
    return a, b, c


@function("colour number number -> colour")
def shade(colour: Colour, height: Tensor, depth: Tensor) -> Colour:
    """Light from the upper left on a relief of so much depth."""
    if height.ndim < 3 or 1 in height.shape[-2:]:
        return colour
    pad = F.pad(height[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    per_unit = height.shape[-1] / 4  # of the viewport, so that a picture twice as large is alike
    slope = (pad[:, 1:-1, 2:] - pad[:, 1:-1, :-2] + pad[:, 2:, 1:-1] - pad[:, :-2, 1:-1]) * per_unit
    light = 1 - depth * slope / torch.sqrt(1 + slope * slope)
    red, green, blue = (channel * light for channel in colour)
    return red, green, blue


def palette_of(rows: tuple[tuple[float, float, float], ...], device: torch.device) -> Palette:
    """Colours at equal distances on a ring, joined by straight lines: [PALETTE_STEPS, 3]."""
    corners = torch.tensor([*rows, rows[0]], dtype=torch.float32)
    place = torch.arange(PALETTE_STEPS) * len(rows) / PALETTE_STEPS
    before = place.long()
    part = (place - before)[:, None]
    return (corners[before] * (1 - part) + corners[before + 1] * part).to(device)
