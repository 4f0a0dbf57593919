"""What the images of a labelled set are labelled with, and the metrics that fit it."""

from collections.abc import Mapping
from typing import Literal, get_args

Task = Literal["classification", "multilabel", "retrieval"]
"""What the images of a set are labelled with: one class, any number of classes, or captions."""
HAVE_CLASSES: tuple[Task, ...] = ("classification", "multilabel")
Metric = Literal["top-1", "mean-per-class", "map-11", "recall@1"]
METRICS: Mapping[Task, tuple[Metric, ...]] = {
    "classification": ("top-1", "mean-per-class"),
    "multilabel": ("map-11",),
    "retrieval": ("recall@1",),
}
"""By task; the first is taken if the user names none."""
METRIC_NAMES: tuple[str, ...] = get_args(Metric)
