"""Draw a program: all of its views at once, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pipeline.renderers.image_programs.functions import (
    FUNCTIONS,
    OPERATORS,
    SIGNATURES,
    palette_of,
)
from pipeline.renderers.image_programs.language import (
    Call,
    Colours,
    Expression,
    Name,
    Number,
    Program,
    parse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewport:
    """When and where a view looks."""

    time: float
    x: float
    """Of the middle."""
    y: float
    zoom: float
    """Half of the side of what is seen."""


@lru_cache(maxsize=256)
def read_program(text: str) -> Program:
    """The program of a text, remembered. Raises ProgramError."""
    return parse(text, SIGNATURES)


@torch.inference_mode()
def draw(
    program: Program, viewports: Sequence[Viewport], size_px: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Views of one program.

    Returns:
        Pixels, uint8 [views, size_px, size_px, 3], and whether a view is finite, bool [views].
    """

    def of_views(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

    # The middle of each pixel, from -1 to 1; y grows upwards.
    place = (torch.arange(size_px, device=device, dtype=torch.float32) + 0.5) * (2 / size_px) - 1
    shape = (len(viewports), size_px, size_px)
    zoom = of_views([view.zoom for view in viewports])
    x = (place[None, None, :] * zoom + of_views([view.x for view in viewports])).expand(shape)
    y = (-place[None, :, None] * zoom + of_views([view.y for view in viewports])).expand(shape)
    values: dict[str, Any] = {
        "p": (x.contiguous(), y.contiguous()),
        "t": of_views([view.time for view in viewports]),
    }
    for name, expression in program.statements:
        values[name] = _evaluate(expression, values, device)
    colour = torch.stack([c.expand(shape) for c in values[program.statements[-1][0]]], dim=-1)
    is_finite = torch.isfinite(colour).flatten(1).all(dim=1)
    return (colour.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8), is_finite


def _evaluate(expression: Expression, values: dict[str, Any], device: torch.device) -> Any:
    match expression:
        case Number(value):
            return torch.tensor(value, device=device)
        case Colours(rows):
            return palette_of(rows, device)
        case Name(name):
            return values[name]
        case Call(function, arguments):
            given = [_evaluate(argument, values, device) for argument in arguments]
            return (OPERATORS.get(function) or FUNCTIONS[function])(*given)
