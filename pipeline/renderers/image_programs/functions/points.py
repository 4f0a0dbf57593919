"""Functions that move points: what is drawn there is turned, repeated or bent."""

import math

import torch
from torch import Tensor

from pipeline.renderers.image_programs.functions.fields import noise, radius
from pipeline.renderers.image_programs.functions.table import Point, function


@function("point number -> point")
def rotate(p: Point, turn: Tensor) -> Point:
    """Turn by radians."""
    cos, sin = torch.cos(turn), torch.sin(turn)
    return p[0] * cos - p[1] * sin, p[0] * sin + p[1] * cos


@function("point number number -> point")
def move(p: Point, x: Tensor, y: Tensor) -> Point:
    """Shift."""
    return p[0] + x, p[1] + y


@function("point number number -> point")
def stretch(p: Point, x: Tensor, y: Tensor) -> Point:
    """Scale along both axes."""
    return p[0] * x, p[1] * y


@function("point number -> point")
def shear(p: Point, amount: Tensor) -> Point:
    """Lean to the right."""
    return p[0] + amount * p[1], p[1]


@function("point number -> point")
def swirl(p: Point, turn: Tensor) -> Point:
    """Turn the middle by radians, and what is far from it ever less."""
    return rotate(p, turn * torch.exp(-(p[0] * p[0] + p[1] * p[1])))


@function("point number -> point")
def pinch(p: Point, amount: Tensor) -> Point:
    """Draw together, or push apart, what is near the middle."""
    factor = 1 + amount * torch.exp(-2 * (p[0] * p[0] + p[1] * p[1]))
    return p[0] * factor, p[1] * factor


@function("point -> point")
def polar(p: Point) -> Point:
    """Angle, -2 to 2 around the circle, and the logarithm of the radius: endless tunnels."""
    return torch.atan2(p[1], p[0]) * (2 / math.pi), torch.log(radius(p) + 0.05)


@function("point -> point")
def fold(p: Point) -> Point:
    """Mirror everything into one quadrant."""
    return p[0].abs(), p[1].abs()


@function("point number -> point")
def kaleidoscope(p: Point, num_mirrors: Tensor) -> Point:
    """Mirror everything into one of the wedges of a kaleidoscope."""
    wedge = math.pi / num_mirrors.abs().clamp(min=1)
    turned = torch.atan2(p[1], p[0])
    inside = (torch.remainder(turned, 2 * wedge) - wedge).abs()
    length = radius(p)
    return length * torch.cos(inside), length * torch.sin(inside)


@function("point number -> point")
def tile(p: Point, side: Tensor) -> Point:
    """Repeat a square of a side of 2 / `side`."""
    return tuple(torch.remainder(at * side + 1, 2) - 1 for at in p)  # type: ignore[return-value]


@function("point number -> point")
def mirror(p: Point, side: Tensor) -> Point:
    """Repeat a square, mirrored at its edges."""
    x, y = (torch.remainder(at * side + 1, 4) for at in p)
    return (x - 2).abs() - 1, (y - 2).abs() - 1


@function("point number -> point")
def bricks(p: Point, side: Tensor) -> Point:
    """Repeat a brick twice as wide as high, every other row shifted by half of one."""
    y = p[1] * side
    odd = torch.remainder(torch.floor((y + 1) / 2), 2)
    x = p[0] * side * 0.5 + odd
    return torch.remainder(x + 1, 2) - 1, torch.remainder(y + 1, 2) - 1


@function("point -> point")
def inversion(p: Point) -> Point:
    """Turn the inside of the circle out."""
    squared = p[0] * p[0] + p[1] * p[1] + 0.08
    return p[0] / squared, p[1] / squared


@function("point number number -> point")
def ripple(p: Point, frequency: Tensor, amount: Tensor) -> Point:
    """Waves that run across."""
    return (
        p[0] + amount * torch.sin(frequency * p[1]),
        p[1] + amount * torch.sin(frequency * p[0] + 1.3),
    )


@function("point number number -> point")
def warp(p: Point, frequency: Tensor, amount: Tensor) -> Point:
    """Shift each point by noise."""
    q = p[0] * frequency, p[1] * frequency
    across = noise((q[0] + 3.7, q[1] + 1.9)) - 0.5
    down = noise((q[0] + 5.1, q[1] + 6.3)) - 0.5
    return p[0] + 2 * amount * across, p[1] + 2 * amount * down


@function("point number number -> point")
def julia(p: Point, x: Tensor, y: Tensor) -> Point:
    """Three steps of z -> z^2 + c, held back where they would fly away."""
    a, b = p
    for _ in range(3):
        a, b = a * a - b * b + x, 2 * a * b + y
        shrink = 1 / (1 + 0.15 * (a * a + b * b))
        a, b = a * shrink, b * shrink
    return a, b
