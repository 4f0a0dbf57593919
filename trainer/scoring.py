"""From a frozen encoder and a labelled set to scores: features first, then every evaluation."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from manifests.foundation.errors import ConfigError
from trainer.distributed import rank, world_size
from trainer.errors import DataError
from trainer.evaluations import ChosenEvaluation, Classes, require_possible
from trainer.features import Features, extract
from trainer.frozen_encoders import FrozenEncoder
from trainer.labelled_sets import LabelledSet
from trainer.random_crops import crops_of
from trainer.score_file import FORMAT_VERSION
from trainer.scores import Score, classes_in, score
from trainer.tasks import METRICS

MAX_THREADS = 8
"""Threads of a rank that decode and resize images."""


def known_classes(labelled: LabelledSet, metric: str | None = None) -> Classes:
    """What is known of a set before it is read.

    Args:
        metric: None for the first of those that its task has.

    Raises:
        ConfigError: A set of this task has no such metric.
    """
    possible = METRICS[labelled.task]
    if metric is not None and metric not in possible:
        raise ConfigError(
            f"{labelled.name}: is a set of {labelled.task}, which is measured by "
            f"{' or '.join(possible)}, not by {metric}"
        )
    return Classes(
        num=len(labelled.classes),
        names=labelled.classes,
        templates=labelled.templates,
        task=labelled.task,
        metric=next((name for name in possible if name == metric), possible[0]),
    )


def require_evaluable(
    encoder: FrozenEncoder, classes: Classes, evaluations: Mapping[str, ChosenEvaluation]
) -> None:
    """Refuse what cannot be evaluated before features are made. Raises DataError."""
    for name, chosen in evaluations.items():
        require_possible(name, chosen.evaluation, encoder, classes)


def score_encoder(
    encoder: FrozenEncoder,
    labelled: LabelledSet,
    evaluations: Mapping[str, ChosenEvaluation],
    *,
    test_split: str,
    train_split: str = "train",
    batch_size: int,
    metric: str | None = None,
    is_shown: bool = True,
    group: Any = None,
) -> dict[str, Any] | None:
    """Make features and scores.

    Collective: every rank makes features, rank 0 alone scores.

    Args:
        metric: As in `known_classes`.
        is_shown: Whether there is a progress of the features.
        group: As in `extract`.

    Returns:
        The document that `write_scores` keeps; None on the other ranks.

    Raises:
        DataError: The set or one of its images cannot be evaluated on.
    """
    if test_split == train_split:
        raise DataError(f"{labelled.name}: test on another split than {train_split}")
    known = known_classes(labelled, metric)
    require_evaluable(encoder, known, evaluations)
    num_threads = max(1, min(MAX_THREADS, (os.cpu_count() or 1) // world_size()))
    cropped = [name for name, chosen in evaluations.items() if chosen.evaluation.needs_crops]
    needs_train = cropped or any(chosen.evaluation.needs_train for chosen in evaluations.values())
    features = {
        split: extract(
            labelled.split(split),
            encoder,
            batch_size=batch_size,
            num_threads=num_threads,
            is_shown=is_shown,
            group=group,
        )
        for split in ([train_split, test_split] if needs_train else [test_split])
    }
    train, test = features.get(train_split), features[test_split]
    num_classes = known.num or 1 + max(
        max(classes_in(part), default=-1) for part in features.values()
    )
    classes = replace(known, num=num_classes)

    def measured(name: str, train: Features | None) -> Score:
        evaluation = evaluations[name].evaluation
        return score(name, evaluation, encoder, train=train, test=test, classes=classes)

    scores: dict[str, Score] = {}
    if cropped and train is not None:
        # First, because the other ranks wait for rank 0 from one epoch to the next.
        with crops_of(
            labelled.split(train_split),
            encoder,
            train,
            batch_size=batch_size,
            num_threads=num_threads,
        ) as crops:
            if crops is not None:
                with_crops = replace(train, crops=crops)
                scores = {name: measured(name, with_crops) for name in cropped}
    if rank():
        return None
    scores |= {name: measured(name, train) for name in evaluations if name not in scores}
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
        "scores": [
            {**asdict(scores[name]), "settings": chosen.settings}
            for name, chosen in evaluations.items()
        ],
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
