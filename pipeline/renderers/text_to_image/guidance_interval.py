"""Guidance on a part of the denoising steps alone (arXiv:2404.07724): the others cost half.

Pipelines compute a guided step as one batch of twice the size, the half without the prompt first.
Outside of the interval only the half with the prompt is computed, and stands for both: then
`uncond + w (cond - uncond)` is `cond`, whatever the scale.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import ModelError

GUIDED_AS_ONE_BATCH = frozenset(
    {
        *("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"),
        *("KolorsPipeline", "PixArtAlphaPipeline", "PixArtSigmaPipeline", "SanaPipeline"),
    }
)
"""Classes that compute a guided step so: tests/pipeline/test_guidance_interval.py proves it."""


@contextmanager
def guided_within(pipe: Any, interval: tuple[float, float], num_views: int) -> Iterator[None]:
    """Within it, a guided call of the pipeline is guided on a part of its steps.

    Args:
        interval: Share of the steps after which guidance begins, and after which it ends.
        num_views: Views of the call.

    Raises:
        ModelError: The class computes guidance in another way.
    """
    name = "unet" if getattr(pipe, "unet", None) is not None else "transformer"
    network = getattr(pipe, name)
    # Past diffusers' own bookkeeping of parts, which would take this for another model.
    vars(pipe)[name] = _Halving(pipe, network, interval, num_views)
    try:
        yield
    finally:
        vars(pipe)[name] = network


class _Halving:
    """Stands for the network during one call."""

    def __init__(
        self, pipe: Any, network: Any, interval: tuple[float, float], num_views: int
    ) -> None:
        self._pipe, self._network = pipe, network
        self._interval, self._num_views = interval, num_views
        self._num_calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        import torch

        num_steps = len(self._pipe.scheduler.timesteps)
        start, stop = self._interval
        index, self._num_calls = self._num_calls, self._num_calls + 1
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        if not inputs or inputs[0].shape[0] != 2 * self._num_views or index >= num_steps:
            raise ModelError(
                f"renderer.guidance_interval: {type(self._pipe).__name__} does not guide by one "
                "batch of twice the size; leave it out"
            )
        if math.floor(start * num_steps) <= index < math.ceil(stop * num_steps):
            return self._network(*args, **kwargs)
        half = self._network(*map(self._halved, args), **self._halved(kwargs))
        if isinstance(half, tuple):
            return tuple(torch.cat([value, value]) for value in half)
        half.sample = torch.cat([half.sample, half.sample])
        return half

    def _halved(self, value: Any) -> Any:
        """The second half of what has a row for each half of the batch; all else as it is."""
        import torch

        if isinstance(value, torch.Tensor) and value.ndim and len(value) == 2 * self._num_views:
            return value[self._num_views :]
        if isinstance(value, dict):
            return {key: self._halved(item) for key, item in value.items()}
        return value
