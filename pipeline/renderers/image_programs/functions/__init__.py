"""The functions of image programs, in torch, for all pixels of all views of a program at once.

A number is a tensor that broadcasts to [views, height, width]; a point is a pair of them, a colour
a triple of red, green and blue from 0 to 1. Importing this folder fills the table.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.renderers.image_programs.functions import fields, numbers, points  # noqa: F401
from pipeline.renderers.image_programs.functions.colours import palette_of as palette_of
from pipeline.renderers.image_programs.functions.table import FUNCTIONS as FUNCTIONS
from pipeline.renderers.image_programs.functions.table import SIGNATURES as SIGNATURES

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda one, other: _elementwise(torch.add, one, other),
    "subtract": lambda one, other: _elementwise(torch.sub, one, other),
    "multiply": lambda one, other: _elementwise(torch.mul, one, other),
}


def _elementwise(function: Callable[[Any, Any], Tensor], one: Any, other: Any) -> Any:
    """Apply to a number, or to all parts of a point or a colour; a number is paired with each."""
    if not isinstance(one, tuple) and not isinstance(other, tuple):
        return function(one, other)
    size = len(one if isinstance(one, tuple) else other)
    ones = one if isinstance(one, tuple) else (one,) * size
    others = other if isinstance(other, tuple) else (other,) * size
    return tuple(function(a, b) for a, b in zip(ones, others, strict=True))
