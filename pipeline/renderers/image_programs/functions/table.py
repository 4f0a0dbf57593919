"""Values of a program as tensors, and the table of the functions that take and give them."""

from collections.abc import Callable
from typing import Any, TypeVar, cast, get_args

from torch import Tensor

from pipeline.renderers.image_programs.language import Signature, Type

Point = tuple[Tensor, Tensor]
Colour = tuple[Tensor, Tensor, Tensor]

FUNCTIONS: dict[str, Callable[..., Any]] = {}
SIGNATURES: dict[str, Signature] = {}


_Function = TypeVar("_Function", bound=Callable[..., Any])


def function(types: str) -> Callable[[_Function], _Function]:
    """Register a function of the language under its own name. Example: "point number -> point"."""
    takes, _, gives = types.partition(" -> ")
    words = [*takes.split(), gives]
    assert set(words) <= set(get_args(Type))

    def register(implementation: _Function) -> _Function:
        name = implementation.__name__.rstrip("_")
        FUNCTIONS[name] = implementation
        SIGNATURES[name] = Signature(takes=cast(Any, tuple(words[:-1])), gives=cast(Any, gives))
        return implementation

    return register
