"""Evaluations predict, from frozen features, the classes of test images or what belongs together.

This folder holds only evaluations.

Laws, tested for every entry of the table (trainer.testing.evaluations is the public kit):

1. Test labels are never seen: `predict` is given the features of the test images and nothing else
   of them, so no choice and no prediction can depend on a test label. In retrieval it is also given
   all captions, and not which image each belongs to.
2. One prediction per test image, or per caption if it ranks images, in their order; each counts
   once (with episodes, once in each episode that has its class).
3. Perfect on separable features, at chance on features that do not depend on the labels.
4. The same arguments give the same predictions; the global random state is not touched.
5. What cannot be evaluated is refused in one line.
6. Features in half precision give what the same numbers as float32 give.
"""

from __future__ import annotations  # shapes are read by people here: names need no torch

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel

from manifests.foundation.errors import ConfigError
from manifests.foundation.plugins import Entry, did_you_mean, find_entry, load_plugin
from manifests.foundation.settings import Table, check
from trainer.errors import DataError
from trainer.frozen_encoders import FrozenEncoder
from trainer.tasks import Metric, Task

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from trainer.features import Features

Ranks = Literal["classes", "captions", "images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """What the labels of a set mean."""

    num: int
    """Number of classes; 0 while only a set that does not name them was opened."""
    names: tuple[str, ...] = ()
    """By label; empty if the set does not name them."""
    templates: tuple[str, ...] = ()
    """Texts with `{c}` where the name of a class belongs; empty if the set has none."""
    task: Task = "classification"
    metric: Metric = "top-1"
    """What is measured: an evaluation that chooses something does it by the same."""
    captions: tuple[str, ...] = ()
    """In retrieval the captions of all test images, image by image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What an evaluation says of the test images."""

    ranking: Int[Tensor, "queries ranks"]
    """Classes of each image, the most likely first: one, or five if top-5 is to be known. In
    retrieval, ten captions of each image or ten images of each caption, by their numbers."""
    ranks: Ranks = "classes"
    """What is ranked. Captions and classes are ranked for each image, images for each caption."""
    scores: Float[Tensor, "images classes"] | None = None
    """Where an image may have several classes: the higher, the more likely is each of them."""
    episodes: Int[Tensor, "episodes ways"] | None = None
    """The classes of each episode, for an evaluation of many small tasks. Column e of `ranking` is
    then the class that episode e chooses for each image among its own. Only images of its classes
    count; which these are follows from the test labels, so it is for the scoring to say."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen on the way, as JSON."""


class Evaluation(Protocol):
    """See the laws above."""

    Config: type[Table]
    """What `--set NAME.key=value` sets; every key has a default."""
    tasks: Sequence[Task]
    """What it can predict."""
    needs_train: bool
    """Whether `train` must be given."""
    needs_crops: bool
    """Whether `train` and its `crops` must be given: its images are read and encoded again."""

    def __init__(self, config: Any) -> None:
        """Keep an instance of Config."""

    def check(self, encoder: FrozenEncoder, classes: Classes) -> None:
        """Refuse, before any feature is made, what cannot be evaluated. Raises DataError."""

    def predict(
        self,
        encoder: FrozenEncoder,
        train: Features | None,
        test_values: Float[Tensor, "images features"],
        classes: Classes,
    ) -> Prediction:
        """Most likely classes of each test image.

        Args:
            encoder: Made the features; its `device` is where classifiers compute.
            train: Features and labels to learn from; None only if `needs_train` is false.
            test_values: Features of the test images, on the CPU.
            classes: What the labels mean.

        Raises:
            DataError: There is nothing to learn from, or nothing to choose by.
        """


EVALUATIONS: Mapping[str, Entry] = {
    "knn": Entry("trainer.evaluations.knn:Knn", "trainer"),
    "linear": Entry("trainer.evaluations.linear:Linear", "trainer"),
    "linear-plain": Entry("trainer.evaluations.linear:LinearPlain", "trainer"),
    "linear-augmented": Entry("trainer.evaluations.linear_augmented:LinearAugmented", "trainer"),
    "logistic": Entry("trainer.evaluations.logistic:Logistic", "trainer"),
    "few-shot": Entry("trainer.evaluations.few_shot:FewShot", "trainer"),
    "zero-shot": Entry("trainer.evaluations.zero_shot:ZeroShot", "trainer"),
    "text-retrieval": Entry("trainer.evaluations.retrieval:TextRetrieval", "trainer"),
    "image-retrieval": Entry("trainer.evaluations.retrieval:ImageRetrieval", "trainer"),
}


def require_evaluations(names: Sequence[str]) -> None:
    """Refuse unknown names, and import nothing. Raises PluginError."""
    for name in names:
        find_entry("evaluation", EVALUATIONS, name)


def evaluation_class(name: str) -> type[Evaluation]:
    """The evaluation behind a name of the table or a dotted path. Raises PluginError."""
    evaluation: type[Evaluation] = load_plugin("evaluation", EVALUATIONS, name, Evaluation)
    return evaluation


def require_possible(
    name: str, evaluation: Evaluation, encoder: FrozenEncoder, classes: Classes
) -> None:
    """Refuse, before any feature is made, what cannot be evaluated. Raises DataError."""
    if classes.task not in evaluation.tasks:
        raise DataError(
            f"{name}: is for sets of {' or '.join(evaluation.tasks)}, and this one is of "
            f"{classes.task}; leave it out, or give another set"
        )
    evaluation.check(encoder, classes)


def require_texts(name: str, encoder: FrozenEncoder) -> None:
    """Refuse an encoder that embeds no texts. Raises DataError."""
    if encoder.embed_texts is None or encoder.embed_features is None:
        raise DataError(
            f"{name}: {encoder.name} was not trained with text; leave {name} out of --with, or "
            "take an encoder of stablerep-plus, clip or open_clip"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenEvaluation:
    """An evaluation as the user wants it."""

    evaluation: Evaluation
    settings: dict[str, Any]
    """All of them as JSON, defaults included."""


def choose_evaluations(
    names: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, ChosenEvaluation]:
    """Evaluations by name, each with all its settings.

    Args:
        names: Of the table, or dotted paths; a path is named by the part after its colon.
        settings: A table for each of them, not checked yet.

    Raises:
        ConfigError: A table that belongs to none of them, a wrong key or value in one, or two
            evaluations of one name.
        PluginError: An unknown name.
    """
    chosen: dict[str, ChosenEvaluation] = {}
    for name in names:
        short = name.rpartition(":")[2]
        kind = evaluation_class(name)
        values = settings.get(short, {})
        if short in chosen:
            raise ConfigError(f"--with {name}: two evaluations are named {short}; give one")
        if not isinstance(values, Mapping):
            raise ConfigError(f"--set {short}: a table, expected {short}.key=value")
        config: BaseModel = check(kind.Config, values, origin="--set", table=short)
        chosen[short] = ChosenEvaluation(
            evaluation=kind(config), settings=config.model_dump(mode="json")
        )
    for table in settings:
        if table not in chosen:
            raise ConfigError(
                f"--set {table}: not an evaluation that runs, those of --with are "
                f"{', '.join(chosen)}{did_you_mean(table, chosen)}"
            )
    return chosen
