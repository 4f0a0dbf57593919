"""The functions of image programs, in torch, for all pixels of all views of a program at once.

A number is a tensor that broadcasts to [views, height, width]; a point is a pair of them, a colour
a triple of red, green and blue from 0 to 1.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.renderers.image_programs.language import Signature, Type
from pipeline.renderers.image_programs.textures import PERIOD, texture

Point = tuple[Tensor, Tensor]
Colour = tuple[Tensor, Tensor, Tensor]
Palette = Tensor
"""Colours at PALETTE_STEPS places from 0 to 1, [steps, 3]; the last runs into the first."""
PALETTE_STEPS = 256

FUNCTIONS: dict[str, Callable[..., Any]] = {}
SIGNATURES: dict[str, Signature] = {}


_Function = TypeVar("_Function", bound=Callable[..., Any])


def _function(types: str) -> Callable[[_Function], _Function]:
    """Register a function of the language under its own name. Example: "point number -> point"."""
    takes, _, gives = types.partition(" -> ")
    words = [*takes.split(), gives]
    assert set(words) <= set(get_args(Type))

    def register(function: _Function) -> _Function:
        name = function.__name__.rstrip("_")
        FUNCTIONS[name] = function
        SIGNATURES[name] = Signature(takes=cast(Any, tuple(words[:-1])), gives=cast(Any, gives))
        return function

    return register


# Points.


@_function("point number -> point")
def rotate(p: Point, turn: Tensor) -> Point:
    """Turn by radians."""
    cos, sin = torch.cos(turn), torch.sin(turn)
    return p[0] * cos - p[1] * sin, p[0] * sin + p[1] * cos


@_function("point number number -> point")
def move(p: Point, x: Tensor, y: Tensor) -> Point:
    """Shift."""
    return p[0] + x, p[1] + y


@_function("point number number -> point")
def stretch(p: Point, x: Tensor, y: Tensor) -> Point:
    """Scale along both axes."""
    return p[0] * x, p[1] * y


@_function("point number -> point")
def shear(p: Point, amount: Tensor) -> Point:
    """Lean to the right."""
    return p[0] + amount * p[1], p[1]


@_function("point number -> point")
def swirl(p: Point, turn: Tensor) -> Point:
    """Turn the middle by radians, and what is far from it ever less."""
    return rotate(p, turn * torch.exp(-(p[0] * p[0] + p[1] * p[1])))


@_function("point number -> point")
def pinch(p: Point, amount: Tensor) -> Point:
    """Draw together, or push apart, what is near the middle."""
    factor = 1 + amount * torch.exp(-2 * (p[0] * p[0] + p[1] * p[1]))
    return p[0] * factor, p[1] * factor


@_function("point -> point")
def polar(p: Point) -> Point:
    """Angle, -2 to 2 around the circle, and the logarithm of the radius: endless tunnels."""
    return torch.atan2(p[1], p[0]) * (2 / math.pi), torch.log(radius(p) + 0.05)


@_function("point -> point")
def fold(p: Point) -> Point:
    """Mirror everything into one quadrant."""
    return p[0].abs(), p[1].abs()


@_function("point number -> point")
def kaleidoscope(p: Point, num_mirrors: Tensor) -> Point:
    """Mirror everything into one of the wedges of a kaleidoscope."""
    wedge = math.pi / num_mirrors.abs().clamp(min=1)
    turned = torch.atan2(p[1], p[0])
    inside = (torch.remainder(turned, 2 * wedge) - wedge).abs()
    length = radius(p)
    return length * torch.cos(inside), length * torch.sin(inside)


@_function("point number -> point")
def tile(p: Point, side: Tensor) -> Point:
    """Repeat a square of a side of 2 / `side`."""
    return tuple(torch.remainder(at * side + 1, 2) - 1 for at in p)  # type: ignore[return-value]


@_function("point number -> point")
def mirror(p: Point, side: Tensor) -> Point:
    """Repeat a square, mirrored at its edges."""
    x, y = (torch.remainder(at * side + 1, 4) for at in p)
    return (x - 2).abs() - 1, (y - 2).abs() - 1


@_function("point number -> point")
def bricks(p: Point, side: Tensor) -> Point:
    """Repeat a brick twice as wide as high, every other row shifted by half of one."""
    y = p[1] * side
    odd = torch.remainder(torch.floor((y + 1) / 2), 2)
    x = p[0] * side * 0.5 + odd
    return torch.remainder(x + 1, 2) - 1, torch.remainder(y + 1, 2) - 1


@_function("point -> point")
def inversion(p: Point) -> Point:
    """Turn the inside of the circle out."""
    squared = p[0] * p[0] + p[1] * p[1] + 0.08
    return p[0] / squared, p[1] / squared


@_function("point number number -> point")
def ripple(p: Point, frequency: Tensor, amount: Tensor) -> Point:
    """Waves that run across."""
    return (
        p[0] + amount * torch.sin(frequency * p[1]),
        p[1] + amount * torch.sin(frequency * p[0] + 1.3),
    )


@_function("point number number -> point")
def warp(p: Point, frequency: Tensor, amount: Tensor) -> Point:
    """Shift each point by noise."""
    q = p[0] * frequency, p[1] * frequency
    across = noise((q[0] + 3.7, q[1] + 1.9)) - 0.5
    down = noise((q[0] + 5.1, q[1] + 6.3)) - 0.5
    return p[0] + 2 * amount * across, p[1] + 2 * amount * down


@_function("point number number -> point")
def julia(p: Point, x: Tensor, y: Tensor) -> Point:
    """Three steps of z -> z^2 + c, held back where they would fly away."""
    a, b = p
    for _ in range(3):
        a, b = a * a - b * b + x, 2 * a * b + y
        shrink = 1 / (1 + 0.15 * (a * a + b * b))
        a, b = a * shrink, b * shrink
    return a, b


# Fields: a number at each point.


@_function("point -> number")
def x(p: Point) -> Tensor:
    """The first coordinate."""
    return p[0]


@_function("point -> number")
def y(p: Point) -> Tensor:
    """The second coordinate."""
    return p[1]


@_function("point -> number")
def radius(p: Point) -> Tensor:
    """Distance from the middle."""
    return torch.sqrt(p[0] * p[0] + p[1] * p[1] + 1e-12)


@_function("point -> number")
def angle(p: Point) -> Tensor:
    """Angle, from 0 to 1 around the circle."""
    return torch.atan2(p[1], p[0]) / (2 * math.pi) + 0.5


def _look_up(name: str, p: Point, mode: str = "bilinear") -> Tensor:
    across, down = torch.broadcast_tensors(*p)  # type: ignore[no-untyped-call]
    grid = torch.stack((across, down), dim=-1) * (2 / PERIOD)
    grid = grid - 2 * torch.floor(grid / 2) - 1  # into one period: from -1 to 1
    flat = grid.reshape(1, -1, grid.shape[-2], 2)
    values = F.grid_sample(texture(name, str(grid.device)), flat, mode=mode, align_corners=True)
    return values.reshape(across.shape)


@_function("point -> number")
def noise(p: Point) -> Tensor:
    """Smooth random hills, about two in a unit, from 0 to 1."""
    return _look_up("noise", p)


@_function("point -> number")
def fbm(p: Point) -> Tensor:
    """Clouds: four octaves of noise, from 0 to 1."""
    return _look_up("fbm", p)


@_function("point -> number")
def ridges(p: Point) -> Tensor:
    """Veins where clouds change their sign, from 0 to 1."""
    return _look_up("ridges", p)


@_function("point -> number")
def cells(p: Point) -> Tensor:
    """Distance to the nearest of scattered points, from 0 to 1."""
    return _look_up("cells", p)


@_function("point -> number")
def edges(p: Point) -> Tensor:
    """0 at the borders of the cells of scattered points, 1 far inside of them."""
    return _look_up("edges", p)


@_function("point -> number")
def cell(p: Point) -> Tensor:
    """One random number from 0 to 1 for each cell."""
    return _look_up("cell", p, "nearest")


@_function("point -> number")
def leaves(p: Point) -> Tensor:
    """One random number for each of the discs that lie on each other."""
    return _look_up("leaves", p, "nearest")


@_function("point number -> number")
def rings(p: Point, frequency: Tensor) -> Tensor:
    """Rings around the middle, from 0 to 1."""
    return wave(radius(p) * frequency)


@_function("point number -> number")
def stripes(p: Point, frequency: Tensor) -> Tensor:
    """Stripes, from 0 to 1."""
    return wave(p[0] * frequency)


@_function("point -> number")
def checker(p: Point) -> Tensor:
    """A board of squares of side 1, 0 or 1."""
    return torch.remainder(torch.floor(p[0]) + torch.floor(p[1]), 2)


@_function("point number number -> number")
def spiral(p: Point, num_arms: Tensor, tightness: Tensor) -> Tensor:
    """Arms that wind around the middle, from 0 to 1."""
    turns = torch.round(num_arms) * angle(p)
    return wave(turns + tightness * torch.log(radius(p) + 0.05))


@_function("point number -> number")
def disc(p: Point, size: Tensor) -> Tensor:
    """1 inside of a circle, 0 outside, with a soft edge."""
    return smooth(radius(p), size, size - 0.06)


@_function("point number number -> number")
def box(p: Point, width: Tensor, height: Tensor) -> Tensor:
    """1 inside of a rectangle, 0 outside, with a soft edge."""
    outside = torch.maximum(p[0].abs() - width, p[1].abs() - height)
    return smooth(outside, torch.zeros_like(outside), torch.full_like(outside, -0.06))


@_function("point number number -> number")
def polygon(p: Point, num_corners: Tensor, size: Tensor) -> Tensor:
    """1 inside of a regular polygon, 0 outside, with a soft edge."""
    wedge = 2 * math.pi / torch.round(num_corners).clamp(min=3)
    turned = torch.atan2(p[0], p[1])
    inside = torch.remainder(turned + wedge / 2, wedge) - wedge / 2
    return smooth(radius(p) * torch.cos(inside), size, size - 0.06)


@_function("point number number -> number")
def flower(p: Point, num_petals: Tensor, size: Tensor) -> Tensor:
    """1 inside of a flower, 0 outside, with a soft edge."""
    petal = torch.cos(torch.atan2(p[1], p[0]) * torch.round(num_petals))
    edge = size * (0.72 + 0.28 * petal)
    return smooth(radius(p), edge, edge - 0.06)


@_function("point number -> number")
def lattice(p: Point, width: Tensor) -> Tensor:
    """1 on the lines of a lattice of side 1, with a soft edge."""
    across, down = (torch.remainder(at + 0.5, 1) - 0.5 for at in p)
    nearest = torch.minimum(across.abs(), down.abs())
    return smooth(nearest, width, width - 0.05)


@_function("point -> number")
def plasma(p: Point) -> Tensor:
    """Sines in three directions, from 0 to 1."""
    total = torch.sin(p[0]) + torch.sin(p[1] + 0.7 * p[0]) + torch.sin(radius(p) * 1.4)
    return total / 6 + 0.5


# Numbers.


@_function("number -> number")
def sin(value: Tensor) -> Tensor:
    """Sine of radians."""
    return torch.sin(value)


@_function("number -> number")
def wave(value: Tensor) -> Tensor:
    """A sine from 0 to 1 with period 1."""
    return 0.5 + 0.5 * torch.sin(value * (2 * math.pi))


@_function("number -> number")
def triangle(value: Tensor) -> Tensor:
    """Up and down along straight lines from 0 to 1, with period 1."""
    return (2 * torch.remainder(value, 1) - 1).abs()


@_function("number -> number")
def fraction(value: Tensor) -> Tensor:
    """What is behind the point."""
    return torch.remainder(value, 1)


@_function("number -> number")
def abs_(value: Tensor) -> Tensor:
    """Without the sign."""
    return value.abs()


@_function("number number -> number")
def least(one: Tensor, other: Tensor) -> Tensor:
    """The lower of two."""
    return torch.minimum(one, other)


@_function("number number -> number")
def most(one: Tensor, other: Tensor) -> Tensor:
    """The higher of two."""
    return torch.maximum(one, other)


@_function("number number number -> number")
def mix(one: Tensor, other: Tensor, amount: Tensor) -> Tensor:
    """From one at 0 to the other at 1."""
    return one + (other - one) * amount


@_function("number number number -> number")
def smooth(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """A soft step from 0 at `low` to 1 at `high`; `high` may be the lower one."""
    width = high - low
    safe = torch.where(width.abs() < 1e-4, torch.full_like(width, 1e-4), width)
    part = ((value - low) / safe).clamp(0, 1)
    return part * part * (3 - 2 * part)


@_function("number number -> number")
def poster(value: Tensor, num_steps: Tensor) -> Tensor:
    """A staircase of so many steps in a unit."""
    steps = torch.round(num_steps).clamp(min=1)
    return torch.floor(value * steps) / steps


# Colours.


@_function("number colours -> colour")
def ramp(value: Tensor, palette: Palette) -> Colour:
    """Colours along a closed ring, once around in a unit."""
    part = torch.remainder(torch.nan_to_num(value), 1)
    index = (part * PALETTE_STEPS).long().clamp(0, PALETTE_STEPS - 1)
    red, green, blue = (channel[index] for channel in palette.T.contiguous())
    return red, green, blue


@_function("number number number -> colour")
def hue(turn: Tensor, saturation: Tensor, value: Tensor) -> Colour:
    """Red at 0, green at 1/3, blue at 2/3; grey at saturation 0, black at value 0."""
    channels = []
    for shift in (0.0, 2 / 3, 1 / 3):
        part = (6 * torch.remainder(turn + shift, 1) - 3).abs() - 1
        channels.append(value * (1 + saturation * (part.clamp(0, 1) - 1)))
    return channels[0], channels[1], channels[2]


@_function("colour colour number -> colour")
def blend(one: Colour, other: Colour, amount: Tensor) -> Colour:
    """From one colour at 0 to the other at 1."""
    a, b, c = (mix(first, second, amount) for first, second in zip(one, other, strict=True))
    return a, b, c


@_function("colour number number -> colour")
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


OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda one, other: _each(torch.add, one, other),
    "subtract": lambda one, other: _each(torch.sub, one, other),
    "multiply": lambda one, other: _each(torch.mul, one, other),
}


def _each(function: Callable[[Any, Any], Tensor], one: Any, other: Any) -> Any:
    """Apply to a number, or to all parts of a point or a colour; a number is paired with each."""
    if not isinstance(one, tuple) and not isinstance(other, tuple):
        return function(one, other)
    size = len(one if isinstance(one, tuple) else other)
    ones = one if isinstance(one, tuple) else (one,) * size
    others = other if isinstance(other, tuple) else (other,) * size
    return tuple(function(a, b) for a, b in zip(ones, others, strict=True))
