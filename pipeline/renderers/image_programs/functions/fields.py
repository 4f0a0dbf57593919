"""Fields: functions that give a number at each point."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.renderers.image_programs.functions.numbers import smooth, wave
from pipeline.renderers.image_programs.functions.table import Point, function
from pipeline.renderers.image_programs.textures import PERIOD, texture


@function("point -> number")
def x(p: Point) -> Tensor:
    """The first coordinate."""
    return p[0]


@function("point -> number")
def y(p: Point) -> Tensor:
    """The second coordinate."""
    return p[1]


@function("point -> number")
def radius(p: Point) -> Tensor:
    """Distance from the middle."""
    return torch.sqrt(p[0] * p[0] + p[1] * p[1] + 1e-12)


@function("point -> number")
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


@function("point -> number")
def noise(p: Point) -> Tensor:
    """Smooth random hills, about two in a unit, from 0 to 1."""
    return _look_up("noise", p)


@function("point -> number")
def fbm(p: Point) -> Tensor:
    """Clouds: four octaves of noise, from 0 to 1."""
    return _look_up("fbm", p)


@function("point -> number")
def ridges(p: Point) -> Tensor:
    """Veins where clouds change their sign, from 0 to 1."""
    return _look_up("ridges", p)


@function("point -> number")
def cells(p: Point) -> Tensor:
    """Distance to the nearest of scattered points, from 0 to 1."""
    return _look_up("cells", p)


@function("point -> number")
def edges(p: Point) -> Tensor:
    """0 at the borders of the cells of scattered points, 1 far inside of them."""
    return _look_up("edges", p)


@function("point -> number")
def cell(p: Point) -> Tensor:
    """One random number from 0 to 1 for each cell."""
    return _look_up("cell", p, "nearest")


@function("point -> number")
def leaves(p: Point) -> Tensor:
    """One random number for each of the discs that lie on each other."""
    return _look_up("leaves", p, "nearest")


@function("point number -> number")
def rings(p: Point, frequency: Tensor) -> Tensor:
    """Rings around the middle, from 0 to 1."""
    return wave(radius(p) * frequency)


@function("point number -> number")
def stripes(p: Point, frequency: Tensor) -> Tensor:
    """Stripes, from 0 to 1."""
    return wave(p[0] * frequency)


@function("point -> number")
def checker(p: Point) -> Tensor:
    """A board of squares of side 1, 0 or 1."""
    return torch.remainder(torch.floor(p[0]) + torch.floor(p[1]), 2)


@function("point number number -> number")
def spiral(p: Point, num_arms: Tensor, tightness: Tensor) -> Tensor:
    """Arms that wind around the middle, from 0 to 1."""
    turns = torch.round(num_arms) * angle(p)
    return wave(turns + tightness * torch.log(radius(p) + 0.05))


@function("point number -> number")
def disc(p: Point, size: Tensor) -> Tensor:
    """1 inside of a circle, 0 outside, with a soft edge."""
    return smooth(radius(p), size, size - 0.06)


@function("point number number -> number")
def box(p: Point, width: Tensor, height: Tensor) -> Tensor:
    """1 inside of a rectangle, 0 outside, with a soft edge."""
    outside = torch.maximum(p[0].abs() - width, p[1].abs() - height)
    return smooth(outside, torch.zeros_like(outside), torch.full_like(outside, -0.06))


@function("point number number -> number")
def polygon(p: Point, num_corners: Tensor, size: Tensor) -> Tensor:
    """1 inside of a regular polygon, 0 outside, with a soft edge."""
    wedge = 2 * math.pi / torch.round(num_corners).clamp(min=3)
    turned = torch.atan2(p[0], p[1])
    inside = torch.remainder(turned + wedge / 2, wedge) - wedge / 2
    return smooth(radius(p) * torch.cos(inside), size, size - 0.06)


@function("point number number -> number")
def flower(p: Point, num_petals: Tensor, size: Tensor) -> Tensor:
    """1 inside of a flower, 0 outside, with a soft edge."""
    petal = torch.cos(torch.atan2(p[1], p[0]) * torch.round(num_petals))
    edge = size * (0.72 + 0.28 * petal)
    return smooth(radius(p), edge, edge - 0.06)


@function("point number -> number")
def lattice(p: Point, width: Tensor) -> Tensor:
    """1 on the lines of a lattice of side 1, with a soft edge."""
    across, down = (torch.remainder(at + 0.5, 1) - 0.5 for at in p)
    nearest = torch.minimum(across.abs(), down.abs())
    return smooth(nearest, width, width - 0.05)


@function("point -> number")
def plasma(p: Point) -> Tensor:
    """Sines in three directions, from 0 to 1."""
    total = torch.sin(p[0]) + torch.sin(p[1] + 0.7 * p[0]) + torch.sin(radius(p) * 1.4)
    return total / 6 + 0.5
