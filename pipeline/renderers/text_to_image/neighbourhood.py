"""Views around a latent: the noise that a view begins with is mixed with that of its caption.

GenRep's views (arXiv:2106.05258) for text-to-image models. Noise keeps its variance: a view begins
with sqrt(1 - sigma^2) of the caption's noise and sigma of its own, so that sigma 0 is the anchor
itself and sigma 1 an independent view.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from torch import Generator, Tensor


def can_mix(pipeline_class: type) -> bool:
    """Whether a pipeline of this class draws its first noise where it can be mixed."""
    prepare = getattr(pipeline_class, "prepare_latents", None)
    return prepare is not None and "generator" in inspect.signature(prepare).parameters


@contextmanager
def mixed_noise(
    pipe: Any, own: "Sequence[Generator]", anchors: Sequence[int], sigma: float
) -> Iterator[None]:
    """Within it, one call of the pipeline begins with mixed noise.

    Args:
        own: Generators that the call is given, one for each view.
        anchors: Seed of each view's caption.

    Raises:
        ModelError: The scheduler draws more noise while it denoises, which would not be mixed.
    """
    import torch

    prepare = pipe.prepare_latents
    signature = inspect.signature(prepare)
    after: list[torch.Tensor] = []

    def prepare_mixed(*args: Any, **kwargs: Any) -> Any:
        of_view = prepare(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.arguments["generator"] = [torch.Generator().manual_seed(seed) for seed in anchors]
        of_anchor = prepare(*bound.args, **bound.kwargs)
        after[:] = [generator.get_state() for generator in own]
        if isinstance(of_view, tuple):  # some pipelines also give places of the latents
            return (_mix(of_anchor[0], of_view[0], sigma), *of_view[1:])
        return _mix(of_anchor, of_view, sigma)

    pipe.prepare_latents = prepare_mixed
    try:
        yield
    finally:
        del pipe.prepare_latents  # the method of the class is there again
    states = [generator.get_state() for generator in own]
    if not after or not all(map(torch.equal, states, after)):
        raise ModelError(
            f"{type(pipe.scheduler).__name__} draws noise while it denoises, so that views would "
            "not stay near their anchor; give renderer.scheduler DDIMScheduler or another "
            "deterministic one"
        )


def _mix(of_anchor: "Tensor", of_view: "Tensor", sigma: float) -> "Tensor":
    share = float((1 - sigma**2) ** 0.5)
    return share * of_anchor + sigma * of_view
