"""How much the views of a group differ, by a measure of pixels that needs no model."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 16
"""Views are shrunk to this side first, so that neither noise nor grain counts."""
MEASURE = (
    f"mean absolute difference of colour between two views, shrunk to {SIDE_PX} x {SIDE_PX} px, "
    "in % of the range of a channel"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """Distances of one variation, in % of the range of a channel."""

    mean: float
    error: float
    """Half of a 95 % interval of the mean over groups; 0 if there is only one."""
    num_groups: int


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A view as it is compared: [SIDE_PX, SIDE_PX, 3], 0 to 255.

    Args:
        pixels: RGB [height, width, 3].
    """
    small = Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Distance of two thumbnails, 0 (equal) to 100 (black and white)."""
    return float(np.abs(one - other).mean()) / 255 * 100


def within_groups(
    views: Iterable[tuple[int, int, NDArray[np.float32]]],
) -> dict[int, Distance]:
    """Distances of all pairs of views that are of one group and one variation.

    Args:
        views: Group, number of the variation, and thumbnail of each view.

    Returns:
        By variation; those without such a pair are left out.
    """
    cells: dict[tuple[int, int], list[NDArray[np.float32]]] = defaultdict(list)
    for group, variation, view in views:
        cells[variation, group].append(view)
    means: dict[int, list[float]] = defaultdict(list)
    for (variation, _), cell in sorted(cells.items(), key=lambda item: item[0]):
        if len(cell) > 1:
            pairs = itertools.combinations(cell, 2)
            means[variation].append(statistics.fmean(distance(a, b) for a, b in pairs))
    return {variation: _distance(values) for variation, values in means.items()}


def between_groups(
    views: Iterable[tuple[int, int, NDArray[np.float32]]],
) -> dict[int, Distance]:
    """The same between the first views of neighbouring groups, for comparison."""
    first: dict[int, dict[int, NDArray[np.float32]]] = defaultdict(dict)
    for group, variation, view in views:
        first[variation].setdefault(group, view)
    results = {}
    for variation, by_group in sorted(first.items()):
        if len(by_group) > 1:
            pairs = itertools.pairwise(by_group.values())
            results[variation] = _distance([distance(a, b) for a, b in pairs])
    return results


def _distance(values: Sequence[float]) -> Distance:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return Distance(
        mean=statistics.fmean(values),
        error=1.96 * spread / len(values) ** 0.5,
        num_groups=len(values),
    )
