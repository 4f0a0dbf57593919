"""What is measured on a labelled set: the metric that its papers report, with an interval.

No function that predicts or chooses is given a test label: they are seen here, and by the scoring.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from trainer.classifiers import Interval, wilson_interval

RECALL_AT = (1, 5, 10)
_RESAMPLES = 400
"""Of the groups: the standard deviation is then known to about 4 %."""


def image_weights(labels: Int[Tensor, " images"], metric: str) -> Float[Tensor, " images"]:
    """What each image counts for: all alike, or with `mean-per-class` each class alike."""
    labels = labels.cpu()
    if metric != "mean-per-class":
        return torch.ones(len(labels), dtype=torch.float64)
    return 1 / torch.bincount(labels).double()[labels]


def mean_per_class(
    correct: Bool[Tensor, " images"],
    labels: Int[Tensor, " images"],
    weights: Float[Tensor, " images"] | None = None,
) -> float:
    """Accuracy with each class counted alike; classes without an image do not count.

    Args:
        weights: How often each image counts in its class; once if None.
    """
    weights = torch.ones(len(labels), dtype=torch.float64) if weights is None else weights
    size = int(labels.max()) + 1
    present = torch.bincount(labels, weights, minlength=size)
    hits = torch.bincount(labels, weights * correct, minlength=size)
    return float((hits / present)[present > 0].mean())


def average_precision_11(
    scores: Float[Tensor, "images classes"],
    targets: Bool[Tensor, "images classes"],
    weights: Num[Tensor, " images"] | None = None,
) -> Float[Tensor, " classes"]:
    """Eleven-point average precision of each class, as PASCAL VOC had it until 2007.

    It is the mean over recalls 0, 0.1, ..., 1 of the largest precision at that recall or a larger
    one. Images of equal scores enter together, so their order does not matter. Recalls are compared
    as whole numbers: 3 of 10 images are a recall of 0.3, which floats do not always find.

    Args:
        scores: The higher, the more likely is the class.
        weights: Whole numbers: how often each image counts; once if None.

    Returns:
        NaN for a class that no image has.

    Source: Everingham et al. 2010, section 4.2, equations 1 and 2. SynCLR's code counts precision
    1 at recall 0, even where the highest image is wrong; this is not copied.
    Example: of three images, the first and the third being of the class, precision is 1 up to
    recall 0.5 and 2/3 above: (6 * 1 + 5 * 2/3) / 11.
    """
    return _Ranked(scores, targets).average_precision(weights)


class _Ranked:
    """Images in the order of their scores in each class, which all weights share."""

    def __init__(self, scores: Tensor, targets: Tensor) -> None:
        ordered, self._order = scores.double().sort(dim=0, descending=True)  # [images, classes]
        self._is_last = torch.ones_like(targets)  # of the images that have equal scores
        self._is_last[:-1] = ordered[1:] != ordered[:-1]
        self._hit = targets.gather(0, self._order).double()

    def average_precision(self, weights: Tensor | None) -> Tensor:
        counts = torch.ones_like(self._hit) if weights is None else weights.double()[self._order]
        num_hit, num_taken = (self._hit * counts).cumsum(dim=0), counts.cumsum(dim=0)
        precision = torch.where(self._is_last & (num_taken > 0), num_hit / num_taken, 0.0)
        total = num_hit[-1]
        points = [
            torch.where(10 * num_hit >= tenth * total, precision, 0.0).amax(dim=0)
            for tenth in range(11)
        ]
        return torch.where(total > 0, torch.stack(points).mean(dim=0), torch.nan)


def mean_average_precision(
    scores: Float[Tensor, "images classes"],
    targets: Bool[Tensor, "images classes"],
    groups: Int[Tensor, " images"],
) -> Interval:
    """Mean of `average_precision_11` over the classes that some image has, with its interval.

    NaN if no image has a class.
    """
    ranked = _Ranked(scores, targets)

    def value(weights: Tensor | None) -> float:
        return float(ranked.average_precision(weights).nanmean())

    return resampled_interval(value, groups)


def mean_per_class_interval(
    correct: Bool[Tensor, " images"],
    labels: Int[Tensor, " images"],
    groups: Int[Tensor, " images"],
) -> Interval:
    """`mean_per_class` with its interval."""
    return resampled_interval(lambda weights: mean_per_class(correct, labels, weights), groups)


def resampled_interval(
    statistic: Callable[[Float[Tensor, " images"] | None], float],
    groups: Int[Tensor, " images"],
) -> Interval:
    """A part, such as a mean precision, with a 95 % interval by drawing groups with replacement.

    The spread over the draws is turned into Wilson's interval for as many independent trials as
    leave the same uncertainty; if there is no spread there are as many trials as groups. The draws
    are the same for equal groups, and the global random state is not touched.

    Args:
        statistic: Its value from 0 to 1 when each image counts as often as its weight says; None is
            once.
        groups: Of each image: images of a group are drawn together.

    Source: Efron 1979 (the bootstrap); trainer.classifiers.accuracy_interval for the interval.
    """
    members = torch.unique(groups, return_inverse=True)[1]
    num_groups = int(members.max()) + 1
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(_RESAMPLES):
        drawn = torch.randint(num_groups, (num_groups,), generator=generator)
        values.append(statistic(torch.bincount(drawn, minlength=num_groups).double()[members]))
    spread = torch.tensor(values, dtype=torch.float64)
    variance = float(spread[spread.isfinite()].var(correction=0))
    p = statistic(None)
    size = p * (1 - p) / variance if variance > 0 else float(num_groups)
    return wilson_interval(p, min(size, float(len(groups))) or float(num_groups))
