"""Functions from numbers to numbers."""

import math

import torch
from torch import Tensor

from pipeline.renderers.image_programs.functions.table import function


@function("number -> number")
def sin(value: Tensor) -> Tensor:
    """Sine of radians."""
    return torch.sin(value)


@function("number -> number")
def wave(value: Tensor) -> Tensor:
    """A sine from 0 to 1 with period 1."""
    return 0.5 + 0.5 * torch.sin(value * (2 * math.pi))


@function("number -> number")
def triangle(value: Tensor) -> Tensor:
    """Up and down along straight lines from 0 to 1, with period 1."""
    return (2 * torch.remainder(value, 1) - 1).abs()


@function("number -> number")
def fraction(value: Tensor) -> Tensor:
    """What is behind the point."""
    return torch.remainder(value, 1)


@function("number -> number")
def abs_(value: Tensor) -> Tensor:
    """Without the sign."""
    return value.abs()


@function("number number -> number")
def least(one: Tensor, other: Tensor) -> Tensor:
    """The lower of two."""
    return torch.minimum(one, other)


@function("number number -> number")
def most(one: Tensor, other: Tensor) -> Tensor:
    """The higher of two."""
    return torch.maximum(one, other)


@function("number number number -> number")
def mix(one: Tensor, other: Tensor, amount: Tensor) -> Tensor:
    """From one at 0 to the other at 1."""
    return one + (other - one) * amount


@function("number number number -> number")
def smooth(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """A soft step from 0 at `low` to 1 at `high`; `high` may be the lower one."""
    width = high - low
    safe = torch.where(width.abs() < 1e-4, torch.full_like(width, 1e-4), width)
    part = ((value - low) / safe).clamp(0, 1)
    return part * part * (3 - 2 * part)


@function("number number -> number")
def poster(value: Tensor, num_steps: Tensor) -> Tensor:
    """A staircase of so many steps in a unit."""
    steps = torch.round(num_steps).clamp(min=1)
    return torch.floor(value * steps) / steps
