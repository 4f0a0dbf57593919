"""Deep features of a U-Net are computed on some steps and kept for the next (DeepCache,
arXiv:2312.00858).

On every Nth step the whole network is computed. On the others only its outermost level is, the
first block and the last one, and what the levels below gave on the last whole step is taken again.
The steps are counted and nothing is decided by values, so no view depends on its neighbours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from manifests.foundation.errors import ConfigError
from pipeline.models import ModelFiles

if TYPE_CHECKING:
    from torch import Tensor


def check_feature_cache(model: ModelFiles) -> None:
    """Refuse a model without a U-Net of two levels or more. Raises ConfigError."""
    config = model.part_config("unet")
    is_unet = config.get("_class_name") == "UNet2DConditionModel"
    if not is_unet or len(config.get("down_block_types", ())) < 2:
        raise ConfigError(
            "renderer.feature_cache: only for a UNet2DConditionModel of two levels or more, which "
            f"{model.name} does not have; leave it out"
        )


@contextmanager
def cached_features(unet: Any, interval: int) -> Iterator[None]:
    """Within it, which is one call of a pipeline, deep features are kept.

    Args:
        interval: Steps from one whole step to the next.
    """
    cache = _Cache(interval)
    network = _Replaced(unet, cache.at_step)
    deep = [
        *(_Replaced(block, cache.down) for block in unet.down_blocks[1:]),
        *([] if unet.mid_block is None else [_Replaced(unet.mid_block, cache.passing)]),
        *(_Replaced(block, cache.passing) for block in unet.up_blocks[:-2]),
        _Replaced(unet.up_blocks[-2], cache.last_deep),
    ]
    try:
        yield
    finally:
        for replaced in (network, *deep):
            replaced.restore()


class _Replaced:
    """A module whose `forward` is handed to another function, with its own one first."""

    def __init__(self, module: Any, function: Any) -> None:
        self._module = module
        own = module.forward
        # A hook of accelerate lies there as well, where parts are offloaded or spread over GPUs.
        self._before = vars(module).get("forward")
        module.forward = lambda *args, **kwargs: function(module, own, *args, **kwargs)

    def restore(self) -> None:
        if self._before is None:
            del self._module.forward  # the method of the class is there again
        else:
            self._module.forward = self._before


class _Cache:
    """What the blocks of one call share."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._num_steps = 0
        self._is_whole = True
        self._num_views = 0
        self._features: Tensor | None = None
        self._num_residuals: dict[Any, int] = {}

    def at_step(self, unet: Any, own: Any, sample: "Tensor", *args: Any, **kwargs: Any) -> Any:
        """The network: decides whether this step is a whole one."""
        # A guidance interval changes the number of views that are computed at once.
        is_due = self._num_steps % self._interval == 0
        self._is_whole = is_due or len(sample) != self._num_views
        self._num_steps = 1 if self._is_whole else self._num_steps + 1
        self._num_views = len(sample)
        return own(sample, *args, **kwargs)

    def down(self, block: Any, own: Any, hidden_states: "Tensor", **kwargs: Any) -> Any:
        if self._is_whole:
            hidden, residuals = own(hidden_states, **kwargs)
            self._num_residuals[block] = len(residuals)
            return hidden, residuals
        # In the place of residuals that nothing reads: blocks take them by their number.
        return hidden_states, (hidden_states,) * self._num_residuals[block]

    def passing(self, _: Any, own: Any, hidden_states: "Tensor", *args: Any, **more: Any) -> Any:
        return own(hidden_states, *args, **more) if self._is_whole else hidden_states

    def last_deep(self, _: Any, own: Any, hidden_states: "Tensor", **kwargs: Any) -> Any:
        if self._is_whole:
            self._features = own(hidden_states, **kwargs)
        return self._features
