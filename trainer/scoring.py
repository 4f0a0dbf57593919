"""From a frozen encoder and a labelled set to scores: features first, then every evaluation."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from manifests.foundation.errors import PluginError
from trainer.classifiers import accuracy_interval
from trainer.distributed import rank, world_size
from trainer.episodes import episode_accuracy, episode_interval
from trainer.errors import DataError
from trainer.evaluations import ChosenEvaluation, Classes, Evaluation, Prediction
from trainer.features import Features, extract
from trainer.frozen_encoders import FrozenEncoder
from trainer.labelled_sets import LabelledSet
from trainer.score_file import FORMAT_VERSION

MAX_THREADS = 8
"""Threads of a rank that decode and resize images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Top-1 accuracy, from 0 to 1, with its 95 % interval: over test images (trainer.classifiers),
    or over episodes (trainer.episodes)."""

    name: str
    accuracy: float
    low: float
    high: float
    top5: float | None
    """Part of the images whose class is among the five most likely; None if the evaluation ranks
    fewer, or if there are not more than five classes."""
    num_test: int
    details: dict[str, Any]
    """`mean_per_class`, the accuracy with each class counted alike, and the evaluation's own."""


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

    Raises:
        DataError: The evaluation refuses, or the labels of test are not those of train.
        PluginError: The evaluation does not predict one class for each test image.
    """
    require_known_classes(train, test, classes)
    prediction = evaluation.predict(encoder, train, test.values, classes)
    _require_prediction(name, prediction, len(test.labels))
    if prediction.episodes is not None:
        return _score_episodes(name, prediction, prediction.episodes.cpu(), test)
    hit = prediction.ranking.cpu() == test.labels[:, None]
    correct = hit[:, 0]
    interval = accuracy_interval(correct, test.group_ids())
    present = torch.bincount(test.labels, minlength=classes.num).double()
    hits = torch.bincount(test.labels[correct], minlength=classes.num).double()
    per_class = (hits / present)[present > 0]
    return Score(
        name=name,
        accuracy=interval.accuracy,
        low=interval.low,
        high=interval.high,
        top5=_top5(hit, classes.num),
        num_test=len(correct),
        details={"mean_per_class": float(per_class.mean())} | dict(prediction.details),
    )


def _score_episodes(name: str, prediction: Prediction, classes: Tensor, test: Features) -> Score:
    """The mean over episodes, each tested on the images of its classes.

    Raises:
        DataError: No episode has a class of which there is a test image.
    """
    predicted = prediction.ranking.cpu()
    accuracy = episode_accuracy(predicted, classes, test.labels)
    tested = accuracy.isfinite()
    if not tested.any():
        raise DataError(f"{name}: no test image is of a class of any episode; draw more of them")
    interval = episode_interval(accuracy[tested])
    is_query = (test.labels[:, None, None] == classes).any(dim=2)  # [images, episodes]
    return Score(
        name=name,
        accuracy=interval.accuracy,
        low=interval.low,
        high=interval.high,
        top5=None,
        num_test=int(is_query.any(dim=1).sum()),
        details={
            # An episode counts each of its classes alike.
            "mean_per_class": interval.accuracy,
            "num_episodes": int(tested.sum()),
            "std_of_episodes": float(accuracy[tested].std(correction=0)),
        }
        | dict(prediction.details),
    )


def _top5(hit: Tensor, num_classes: int) -> float | None:
    if hit.shape[1] < 5 or num_classes <= 5:
        return None
    return float(hit[:, :5].any(dim=1).double().mean())


def _require_prediction(name: str, prediction: Prediction, num_images: int) -> None:
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
    if len(ranking) != num_images:
        raise PluginError(
            f"evaluation {name}: {len(ranking)} predictions for {num_images} test images"
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
    if train is None:
        return
    train_labels = set(train.labels.tolist())
    if len(train_labels) < 2:
        raise DataError(f"train has one class, {train_labels.pop()}; expected at least two")
    unknown = sorted(set(test.labels.tolist()) - train_labels)
    if unknown:
        row = test.labels.tolist().index(unknown[0])
        name = f" ({classes.names[unknown[0]]})" if classes.names else ""
        raise DataError(
            f"test image {test.keys[row]} has class {unknown[0]}{name}, which train does not have; "
            "nobody can learn it"
        )


def require_evaluable(
    encoder: FrozenEncoder, labelled: LabelledSet, evaluations: Mapping[str, ChosenEvaluation]
) -> Classes:
    """What is known of the classes before features are made. Raises DataError: see Evaluation."""
    known = Classes(num=len(labelled.classes), names=labelled.classes, templates=labelled.templates)
    for chosen in evaluations.values():
        chosen.evaluation.check(encoder, known)
    return known


def score_encoder(
    encoder: FrozenEncoder,
    labelled: LabelledSet,
    evaluations: Mapping[str, ChosenEvaluation],
    *,
    test_split: str,
    train_split: str = "train",
    batch_size: int,
) -> dict[str, Any] | None:
    """Make features and scores.

    Collective: every rank makes features, rank 0 alone scores.

    Returns:
        The document that `write_scores` keeps; None on the other ranks.

    Raises:
        DataError: The set or one of its images cannot be evaluated on.
    """
    if test_split == train_split:
        raise DataError(f"{labelled.name}: test on another split than {train_split}")
    known = require_evaluable(encoder, labelled, evaluations)
    needs_train = any(chosen.evaluation.needs_train for chosen in evaluations.values())
    features = {
        split: extract(
            labelled.split(split),
            encoder,
            batch_size=batch_size,
            num_threads=max(1, min(MAX_THREADS, (os.cpu_count() or 1) // world_size())),
        )
        for split in ([train_split, test_split] if needs_train else [test_split])
    }
    if rank():
        return None
    train, test = features.get(train_split), features[test_split]
    num_classes = known.num or 1 + max(int(split.labels.max()) for split in features.values())
    classes = Classes(num=num_classes, names=known.names, templates=known.templates)
    scores = []
    for name, chosen in evaluations.items():
        result = score(name, chosen.evaluation, encoder, train=train, test=test, classes=classes)
        scores.append({**asdict(result), "settings": chosen.settings})
    train_digests = set(() if train is None else train.digests)
    return {
        "format_version": FORMAT_VERSION,
        "encoder": dict(encoder.facts),
        "set": {
            "name": labelled.name,
            "train_split": train_split,
            "test_split": test_split,
            "num_classes": num_classes,
            "classes_sha256": classes_fingerprint(labelled),
            "train": None if train is None else _counts(train),
            "test": _counts(test),
            "num_test_in_train": sum(digest in train_digests for digest in test.digests),
        },
        "scores": scores,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("synth-rep", "torch", "timm", "pillow")},
    }


def classes_fingerprint(labelled: LabelledSet) -> str:
    """SHA-256 of the names of the classes and the templates, which decide zero-shot."""
    texts = json.dumps([labelled.classes, labelled.templates])
    return sha256(texts.encode()).hexdigest()


def _counts(features: Features) -> dict[str, Any]:
    return {
        "num_images": len(features.keys),
        "num_groups": len(set(features.groups)),
        "fingerprint": features.fingerprint(),
    }
