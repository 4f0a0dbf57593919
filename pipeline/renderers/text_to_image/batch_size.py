"""Find how many views are best computed at once, by trying."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import RenderMemoryError

FIRST_BATCH = 8
MAX_AUTO_BATCH = 256
ENOUGH_GAIN = 1.1
"""A batch twice as large must be faster per view by this factor, or the search ends: larger batches
cost memory, and a partly filled one costs as much as a full one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A batch size that fits, with what it costs."""

    batch_size: int
    view_s: float
    """Seconds for one view."""


def find_batch_size(render: Callable[[int], object]) -> Measured | None:
    """Double the batch size from FIRST_BATCH for as long as it fits and pays.

    Returns:
        The last size that did, or None if not even the first one fits into memory.

    Args:
        render: Renders one batch of a given size. It is called twice for each size, because the
            first call also pays for what a library prepares.
    """
    best: Measured | None = None
    size = FIRST_BATCH
    while size <= MAX_AUTO_BATCH:
        try:
            render(size)
            start = time.perf_counter()
            render(size)
        except (RenderMemoryError, MemoryError):
            break
        view_s = (time.perf_counter() - start) / size
        if best is not None and view_s * ENOUGH_GAIN > best.view_s:
            break
        best = Measured(batch_size=size, view_s=view_s)
        size *= 2
    return best
