"""One evaluation of one encoder on one set: the prediction first, the test labels afterwards."""

import json
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from manifests.foundation.errors import PluginError
from trainer.classifiers import Interval, accuracy_interval
from trainer.episodes import episode_accuracy, episode_interval
from trainer.errors import DataError
from trainer.evaluations import Classes, Evaluation, Prediction
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.set_metrics import (
    RECALL_AT,
    mean_average_precision,
    mean_per_class,
    mean_per_class_interval,
)
from trainer.tasks import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What was measured, from 0 to 1, with its 95 % interval: over test images or captions
    (trainer.classifiers, trainer.set_metrics), or over episodes (trainer.episodes)."""

    name: str
    metric: Metric
    value: float
    low: float
    high: float
    top5: float | None
    """Part of the images whose class is among the five most likely; None if the evaluation ranks
    fewer, if there are not more than five classes, or if an image has not one class."""
    num_test: int
    """Test images, or captions if images are found by them."""
    details: dict[str, Any]
    """Other metrics, `top1` and `mean_per_class` or `recall@5` and `recall@10`, and the
    evaluation's own."""


def score(
    name: str,
    evaluation: Evaluation,
    encoder: FrozenEncoder,
    *,
    train: Features | None,
    test: Features,
    classes: Classes,
) -> Score:
    """Predict, and only then look at the labels of the test images.

    Args:
        classes: Without captions, which are those of test.

    Raises:
        DataError: The evaluation refuses, or the labels of test are not those of train.
        PluginError: The evaluation does not predict what the set is measured by.
    """
    require_known_classes(train, test, classes)
    captions = tuple(caption for own in test.captions or () for caption in own)
    classes = replace(classes, captions=captions)
    prediction = evaluation.predict(encoder, train, test.values, classes)
    _require_prediction(name, prediction, len(test.keys), classes)
    if classes.task == "retrieval":
        return _score_retrieval(name, prediction, test, classes)
    if classes.task == "multilabel":
        return _score_multilabel(name, prediction, test, classes)
    if prediction.episodes is not None:
        return _score_episodes(name, prediction, prediction.episodes.cpu(), test, classes)
    hit = prediction.ranking.cpu() == test.labels[:, None]
    correct = hit[:, 0]
    groups = test.group_ids()
    interval = accuracy_interval(correct, groups)
    details = {"top1": interval.value, "mean_per_class": mean_per_class(correct, test.labels)}
    if classes.metric == "mean-per-class":
        interval = mean_per_class_interval(correct, test.labels, groups)
    return _measured(
        name,
        classes,
        prediction,
        interval,
        details,
        num_test=len(correct),
        top5=_top5(hit, classes.num),
    )


def _measured(
    name: str,
    classes: Classes,
    prediction: Prediction,
    interval: Interval,
    details: dict[str, Any],
    *,
    num_test: int,
    top5: float | None = None,
) -> Score:
    """A score: what was measured besides stands before what the evaluation says itself."""
    return Score(
        name=name,
        metric=classes.metric,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        top5=top5,
        num_test=num_test,
        details=details | dict(prediction.details),
    )


def _score_retrieval(name: str, prediction: Prediction, test: Features, classes: Classes) -> Score:
    """Recall: the part of the images that have a caption of their own among the first, or of the
    captions that have their image there."""
    assert test.captions is not None
    image_of = torch.tensor([image for image, own in enumerate(test.captions) for _ in own])
    groups, ranking = test.group_ids(), prediction.ranking.cpu()
    if prediction.ranks == "images":
        hit = ranking == image_of[:, None]
        groups = groups[image_of]
    else:
        hit = image_of[ranking] == torch.arange(len(ranking))[:, None]
    recall = {at: hit[:, :at].any(dim=1) for at in RECALL_AT}
    interval = accuracy_interval(recall[1], groups)
    return _measured(
        name,
        classes,
        prediction,
        interval,
        {
            f"recall@{at}": float(correct.double().mean())
            for at, correct in recall.items()
            if at > 1
        },
        num_test=len(hit),
    )


def _score_multilabel(name: str, prediction: Prediction, test: Features, classes: Classes) -> Score:
    """The mean average precision over the classes that test has."""
    assert prediction.scores is not None
    targets = test.targets(classes.num)
    if not targets.any():
        raise DataError(f"{name}: no test image has a class")
    interval = mean_average_precision(prediction.scores.cpu(), targets, test.group_ids())
    return _measured(
        name,
        classes,
        prediction,
        interval,
        {"num_classes_in_test": int(targets.any(dim=0).sum())},
        num_test=len(targets),
    )


def _score_episodes(
    name: str, prediction: Prediction, ways: Tensor, test: Features, classes: Classes
) -> Score:
    """The mean over episodes, each tested on the images of its classes.

    Raises:
        DataError: No episode has a class of which there is a test image.
    """
    predicted = prediction.ranking.cpu()
    accuracy = episode_accuracy(predicted, ways, test.labels)
    tested = accuracy.isfinite()
    if not tested.any():
        raise DataError(f"{name}: no test image is of a class of any episode; draw more of them")
    interval = episode_interval(accuracy[tested])
    is_query = (test.labels[:, None, None] == ways).any(dim=2)  # [images, episodes]
    return _measured(
        name,
        classes,
        prediction,
        interval,
        {
            # An episode counts each of its classes alike, so the two are one.
            "top1": interval.value,
            "mean_per_class": interval.value,
            "num_episodes": int(tested.sum()),
            "std_of_episodes": float(accuracy[tested].std(correction=0)),
        },
        num_test=int(is_query.any(dim=1).sum()),
    )


def _top5(hit: Tensor, num_classes: int) -> float | None:
    if hit.shape[1] < 5 or num_classes <= 5:
        return None
    return float(hit[:, :5].any(dim=1).double().mean())


def _require_prediction(
    name: str, prediction: Prediction, num_images: int, classes: Classes
) -> None:
    """Refuse what no file of scores can hold. Raises PluginError."""
    ranking = getattr(prediction, "ranking", None)
    if (
        not isinstance(ranking, Tensor)
        or ranking.dtype.is_floating_point
        or ranking.dim() != 2
        or ranking.shape[1] < 1
    ):
        raise PluginError(
            f"evaluation {name}: predicts {ranking!r:.100}, expected whole numbers [images, ranks]"
        )
    ranks = getattr(prediction, "ranks", "classes")
    if (classes.task == "retrieval") != (ranks in ("captions", "images")):
        raise PluginError(f"evaluation {name}: ranks {ranks} in a set of {classes.task}")
    num_queries = len(classes.captions) if ranks == "images" else num_images
    if len(ranking) != num_queries:
        queries = "captions" if ranks == "images" else "test images"
        raise PluginError(
            f"evaluation {name}: {len(ranking)} predictions for {num_queries} {queries}"
        )
    scores = getattr(prediction, "scores", None)
    if classes.task == "multilabel" and (
        not isinstance(scores, Tensor)
        or scores.shape != (num_images, classes.num)
        or not scores.isfinite().all()
    ):
        raise PluginError(
            f"evaluation {name}: scores are {scores!r:.100}, expected finite ones for "
            f"{num_images} images and {classes.num} classes"
        )
    episodes = getattr(prediction, "episodes", None)
    if episodes is not None and (episodes.dim() != 2 or len(episodes) != ranking.shape[1]):
        raise PluginError(
            f"evaluation {name}: episodes of shape {list(episodes.shape)} for {ranking.shape[1]} "
            "columns of predictions, expected [episodes, ways]"
        )
    try:
        json.dumps(dict(prediction.details), allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise PluginError(
            f"evaluation {name}: its details are {prediction.details!r:.200}, expected JSON "
            "without NaN"
        ) from exc


def require_known_classes(train: Features | None, test: Features, classes: Classes) -> None:
    """Refuse test labels that train does not have, and a train with one class. Raises DataError."""
    for features in (train, test):
        if features is not None:
            _require_labels_of(features, classes)
    if train is None or classes.task == "retrieval":
        return
    train_labels, test_labels = (classes_in(features) for features in (train, test))
    if len(train_labels) < 2:
        known = f"one class, {next(iter(train_labels))}" if train_labels else "no class"
        raise DataError(f"train has {known}; expected at least two")
    unknown = sorted(test_labels.keys() - train_labels.keys())
    if unknown:
        row = test_labels[unknown[0]]
        name = f" ({classes.names[unknown[0]]})" if classes.names else ""
        raise DataError(
            f"test image {test.keys[row]} has class {unknown[0]}{name}, which train does not have; "
            "nobody can learn it"
        )


def _require_labels_of(features: Features, classes: Classes) -> None:
    """Refuse images that are not labelled as the task wants it. Raises DataError."""
    is_so = {
        "classification": bool((features.labels >= 0).all()),
        "multilabel": features.label_sets is not None,
        "retrieval": features.captions is not None and all(features.captions),
    }
    if not is_so[classes.task]:
        raise DataError(f"some images are not labelled for {classes.task}")


def classes_in(features: Features) -> dict[int, int]:
    """Classes that some image has, each with the row of its first image."""
    rows: dict[int, int] = {}
    sets = features.label_sets or [(label,) for label in features.labels.tolist()]
    for row, labels in enumerate(sets):
        for label in labels:
            rows.setdefault(label, row)
    return rows
