"""The precision that towers compute in: one setting for products and convolutions alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import ParamSpec

import torch
from torch import Tensor

from trainer.config import Precision

_Arguments = ParamSpec("_Arguments")


@contextmanager
def float32_as(precision: str) -> Iterator[None]:
    """Compute what is in float32 as a precision says, with TF32 or exactly, inside the block.

    torch has a switch for matrix products, off unless it is set, and another one for convolutions,
    on unless it is set. Here both are one.
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def autocast_type(precision: str) -> torch.dtype | None:
    """The type that autocast computes in; None for none."""
    return torch.bfloat16 if precision == "bf16" else None


def computed_in(
    precision: Precision, device: torch.device, function: Callable[_Arguments, Tensor]
) -> Callable[_Arguments, Tensor]:
    """A function of a tower, computed in a precision; what it gives may be in bfloat16."""
    dtype = autocast_type(precision)

    def compute(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Tensor:
        autocast = nullcontext() if dtype is None else torch.autocast(device.type, dtype)
        with float32_as(precision), autocast:
            return function(*args, **kwargs)

    return compute
