"""How many views are computed at once: chosen by arithmetic, so that one command makes one set.

Nothing is timed: two runs of a command would choose two sizes, and the size is part of a set's
identity (docs/adr/0004). `synth generate --time-batches` times sizes and prints their rates.
"""

from collections.abc import Callable, Sequence

from manifests.foundation.errors import ConfigError

LARGEST_BATCH = 64
"""Beyond it an eager loop gains little, and a batch that is partly filled wastes more."""
VIEW_BYTES_PER_PIXEL = 4096
"""Of GPU memory, by estimate: activations of a VAE decoder in 16 bits, some 256 channels at full
size, eight times over."""
USABLE_SHARE = 0.8
"""Of the memory of a GPU; the rest is fragments and what other libraries take."""
CALL_COST_VIEWS = 1.0
"""What a call costs besides its views, in views: an A100 makes 0.43, 0.93 and 0.97 images/s of
Stable Diffusion 1.5 in batches of 1, 4 and 16 (diffusers, docs, optimization/torch2.0.md)."""


def largest_batch(
    *,
    device: str,
    pixels: int,
    weight_bytes: Callable[[], int],
    memory_gib: float | None = None,
    gpus: int = 1,
) -> int | None:
    """The largest batch that memory allows by estimate, a power of 2; None if not even one view.

    Args:
        device: `cpu` or `cuda`.
        pixels: Of a rendered view.
        weight_bytes: Gives those of the model on the devices.
        memory_gib: Of a GPU; that of this machine if not given.
        gpus: GPUs that share the weights; a view is computed on one of them.

    Raises:
        ConfigError: The device is a GPU and this machine has none.
    """
    if device == "cpu":
        # A core is busy with one view already; small pictures gain by fewer calls.
        return max(1, min(LARGEST_BATCH, (512 * 512) // pixels))
    if memory_gib is None:
        memory_gib = _memory_gib()
    free = USABLE_SHARE * memory_gib * 2**30 - weight_bytes() / gpus
    views = int(free // (pixels * VIEW_BYTES_PER_PIXEL))
    if views < 1:
        return None
    return min(LARGEST_BATCH, 1 << (views.bit_length() - 1))


def _memory_gib() -> float:
    import torch  # only here, because all else is arithmetic

    if not torch.cuda.is_available():
        raise ConfigError(
            "batch size auto: it is chosen by the memory of a GPU, and this machine has none; give "
            "renderer.gpu_memory_gib of the workers, or --batch-size a number"
        )
    return float(torch.cuda.get_device_properties(0).total_memory / 2**30)


def choose_batch_size(counts: Sequence[int], limit: int) -> int:
    """The size of at most `limit` that costs least for batches of these many views.

    Batches that are not full are filled up, so a size that divides the counts wastes nothing.
    Example: 200 views of each of five guidance scales at a limit of 64 go in 20 batches of 50,
    where 20 batches of 64 would compute 28 % for nothing.

    Args:
        counts: Views of a shard that may go together, for each key of a batch.
    """

    def cost(size: int) -> float:
        num_calls = sum(-(-count // size) for count in counts)
        return num_calls * (size + CALL_COST_VIEWS)

    # The larger one of two equal costs: it has fewer calls.
    return min(range(limit, 0, -1), key=cost)
