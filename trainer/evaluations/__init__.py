"""Evaluations turn frozen features into an accuracy. This folder holds only evaluations.

Laws, tested for every entry of the table (tests/conformance):

1. Test labels are never seen: `predict` is given the features of the test images and nothing else
   of them, so no choice and no prediction can depend on a test label.
2. One prediction per test image, in their order; each test image counts once.
3. Perfect on separable features, at chance on features that say nothing of the labels.
4. The same arguments give the same predictions; the global random state is not touched.
5. What cannot be evaluated is refused in one line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from manifests.foundation.plugins import Entry, load_plugin
from manifests.foundation.settings import Table
from trainer.classifiers import accuracy_interval
from trainer.errors import DataError
from trainer.features import Features


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The encoder that is evaluated, besides its features."""

    name: str
    device: str = "cpu"
    """Where classifiers are computed."""
    text: Callable[[list[str]], Tensor] | None = None
    """Unit text embeddings [texts, embed_dim], for an encoder that was trained with text."""
    project: Callable[[Tensor], Tensor] | None = None
    """Features to unit image embeddings [images, embed_dim], in the space of the texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """What the labels of a set mean."""

    num: int
    names: tuple[str, ...] = ()
    """By label; empty where the set does not name them."""
    templates: tuple[str, ...] = ()
    """Texts with `{c}` in the place of a name; empty where the set has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What an evaluation says of the test images."""

    labels: Int[Tensor, " images"]
    details: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen on the way, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Top-1 accuracy, from 0 to 1, with its 95 % interval (trainer.classifiers)."""

    name: str
    accuracy: float
    low: float
    high: float
    num_test: int
    details: dict[str, Any]
    """`mean_per_class`: accuracy, each class counted alike; and what the evaluation tells."""


class Evaluation(Protocol):
    """See the laws above."""

    Config: type[Table]
    """What `--set NAME.key=value` sets; every key has a default."""
    needs_train: bool
    """Whether `train` must be given."""

    def __init__(self, config: Any) -> None:
        """Keep an instance of Config."""

    def check(self, subject: Subject, classes: Classes) -> None:
        """Refuse, before any feature is made, what cannot be evaluated. Raises DataError."""

    def predict(
        self,
        subject: Subject,
        train: Features | None,
        test_values: Float[Tensor, "images features"],
        classes: Classes,
    ) -> Prediction:
        """Class of each test image. Raises DataError."""


EVALUATIONS: Mapping[str, Entry] = {
    "knn": Entry("trainer.evaluations.knn:Knn", "trainer"),
    "linear": Entry("trainer.evaluations.linear:Linear", "trainer"),
    "zero-shot": Entry("trainer.evaluations.zero_shot:ZeroShot", "trainer"),
}


def evaluation_class(name: str) -> type[Evaluation]:
    """The evaluation behind a name."""
    found: type[Evaluation] = load_plugin("evaluation", EVALUATIONS, name, Evaluation)
    return found


def run(
    name: str,
    evaluation: Evaluation,
    subject: Subject,
    *,
    train: Features | None,
    test: Features,
    classes: Classes,
) -> Score:
    """Predict, and only then look at the labels of the test images.

    Raises:
        DataError: The evaluation refuses, or the labels of test are not those of train.
    """
    require_known_classes(train, test, classes)
    found = evaluation.predict(subject, train, test.values, classes)
    assert found.labels.shape == test.labels.shape
    correct = found.labels.cpu() == test.labels
    interval = accuracy_interval(correct, test.group_ids())
    present = torch.bincount(test.labels, minlength=classes.num).double()
    hits = torch.bincount(test.labels[correct], minlength=classes.num).double()
    per_class = (hits / present)[present > 0]
    return Score(
        name=name,
        accuracy=interval.accuracy,
        low=interval.low,
        high=interval.high,
        num_test=len(correct),
        details={"mean_per_class": float(per_class.mean())} | dict(found.details),
    )


def require_known_classes(train: Features | None, test: Features, classes: Classes) -> None:
    """Refuse labels that nobody could predict, and a set with one class. Raises DataError."""
    if train is None:
        return
    known = set(train.labels.tolist())
    if len(known) < 2:
        raise DataError(f"train has one class, {known.pop()}; expected at least two")
    unknown = sorted(set(test.labels.tolist()) - known)
    if unknown:
        row = test.labels.tolist().index(unknown[0])
        name = f" ({classes.names[unknown[0]]})" if classes.names else ""
        raise DataError(
            f"test image {test.keys[row]} has class {unknown[0]}{name}, which train does not have; "
            "nobody can learn it"
        )
