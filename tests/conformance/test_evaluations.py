"""The laws of trainer.evaluations, for every entry of the table."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from manifests.foundation.settings import check
from tests.sets import refused
from trainer.errors import DataError
from trainer.evaluations import (
    EVALUATIONS,
    Classes,
    Evaluation,
    Prediction,
    Subject,
    evaluation_class,
    run,
)
from trainer.features import Features

NUM_CLASSES = 4
CLASSES = Classes(num=NUM_CLASSES, names=("north", "east", "south", "west"), templates=("a {c}",))

CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "knn": {"neighbours": 5},
    "linear": {"epochs": 10, "batch_size": 256},
    "zero-shot": {},
}
"""What each entry is tried with: a new entry has to be added here."""


def embed_texts(texts: list[str]) -> Tensor:
    rows = [CLASSES.names.index(text.split()[-1]) for text in texts]
    return F.one_hot(torch.tensor(rows), NUM_CLASSES).float()


def project(features: Tensor) -> Tensor:
    return F.normalize(features[:, :NUM_CLASSES], dim=1)


SUBJECT = Subject(name="toy", text=embed_texts, project=project)


def features(num_images: int, *, signal: float, seed: int) -> Features:
    """A centre for each class, as far out as the signal is strong; two images a group."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, NUM_CLASSES, (num_images // 2,), generator=generator)
    labels = labels.repeat_interleave(2)
    values = torch.randn(num_images, 8, generator=generator)
    values[:, :NUM_CLASSES] += signal * F.one_hot(labels, NUM_CLASSES)
    return Features(
        values=values,
        labels=labels,
        groups=tuple(str(row // 2) for row in range(num_images)),
        keys=tuple(str(row) for row in range(num_images)),
        digests=("",) * num_images,
    )


@pytest.fixture(params=CONFIGURATIONS)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def evaluation_of(name: str) -> Evaluation:
    found = evaluation_class(name)
    return found(check(found.Config, CONFIGURATIONS[name], origin="test", table=name))


def predict(name: str, train: Features, test: Features) -> Prediction:
    return evaluation_of(name).predict(SUBJECT, train, test.values, CLASSES)


def test_every_entry_is_tested() -> None:
    assert set(CONFIGURATIONS) == set(EVALUATIONS)


def test_every_key_of_a_configuration_has_a_default(name: str) -> None:
    config = evaluation_class(name).Config()
    assert config.model_config["frozen"]
    assert json.loads(config.model_dump_json()) is not None


def test_separable_features_give_a_perfect_score(name: str) -> None:
    train, test = features(400, signal=12, seed=0), features(200, signal=12, seed=1)
    score = run(name, evaluation_of(name), SUBJECT, train=train, test=test, classes=CLASSES)
    assert (score.name, score.accuracy, score.num_test) == (name, 1, 200)
    assert score.details["mean_per_class"] == 1
    assert 0.9 < score.low < score.high <= 1
    assert json.loads(json.dumps(score.details)) == score.details


def test_features_that_say_nothing_are_at_chance(name: str) -> None:
    train, test = features(800, signal=0, seed=0), features(3000, signal=0, seed=1)
    score = run(name, evaluation_of(name), SUBJECT, train=train, test=test, classes=CLASSES)
    assert 0.2 < score.accuracy < 0.3


def test_shuffled_labels_are_at_chance(name: str) -> None:
    train, test = features(800, signal=3, seed=0), features(3000, signal=3, seed=1)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(2))
    shuffled = replace(test, labels=test.labels[order])
    score = run(name, evaluation_of(name), SUBJECT, train=train, test=shuffled, classes=CLASSES)
    assert 0.2 < score.accuracy < 0.3


def test_every_test_image_has_one_prediction_in_its_place(name: str) -> None:
    train, test = features(200, signal=1, seed=0), features(101 * 2, signal=1, seed=1)
    order = torch.randperm(202, generator=torch.Generator().manual_seed(2))
    found = predict(name, train, test)
    moved = predict(name, train, replace(test, values=test.values[order]))
    assert found.labels.shape == (202,)
    assert torch.equal(moved.labels, found.labels[order])


def test_no_prediction_and_no_choice_sees_a_test_label(name: str) -> None:
    assert set(inspect.signature(evaluation_class(name).predict).parameters) == {
        "self",
        "subject",
        "train",
        "test_values",
        "classes",
    }
    train, test = features(200, signal=1, seed=0), features(200, signal=1, seed=1)
    other = replace(test, labels=test.labels.roll(1), groups=test.groups[::-1])
    seen: list[Prediction] = []
    evaluation = evaluation_of(name)
    original = evaluation.predict

    def spy(*arguments: Any) -> Prediction:
        seen.append(original(*arguments))
        return seen[-1]

    evaluation.predict = spy  # type: ignore[method-assign]
    one = run(name, evaluation, SUBJECT, train=train, test=test, classes=CLASSES)
    two = run(name, evaluation, SUBJECT, train=train, test=other, classes=CLASSES)
    assert one.accuracy != two.accuracy
    assert torch.equal(seen[0].labels, seen[1].labels)
    assert seen[0].details == seen[1].details


def test_same_arguments_give_the_same_and_leave_the_random_state(name: str) -> None:
    train, test = features(200, signal=1, seed=0), features(200, signal=1, seed=1)
    before = torch.get_rng_state()
    one, two = predict(name, train, test), predict(name, train, test)
    assert torch.equal(one.labels, two.labels)
    assert one.details == two.details
    assert torch.equal(torch.get_rng_state(), before)


def test_class_that_train_does_not_have_is_refused(name: str) -> None:
    if not evaluation_class(name).needs_train:
        pytest.skip("learns nothing from train")
    train, test = features(40, signal=1, seed=0), features(40, signal=1, seed=1)
    fewer = replace(train, labels=train.labels.clamp(max=2))
    row = test.labels.tolist().index(3)
    with refused(DataError, f"test image {row} has class 3 (west), which train does not have"):
        run(name, evaluation_of(name), SUBJECT, train=fewer, test=test, classes=CLASSES)
    single = replace(train, labels=torch.zeros_like(train.labels))
    with refused(DataError, "train has one class, 0; expected at least two"):
        run(name, evaluation_of(name), SUBJECT, train=single, test=test, classes=CLASSES)


def test_fewer_images_than_neighbours_are_refused() -> None:
    few = features(4, signal=1, seed=0)
    with refused(DataError, "train has 4 images and knn.neighbours is 5"):
        predict("knn", few, few)


def test_a_rate_that_cannot_be_chosen_is_refused() -> None:
    train = replace(features(40, signal=1, seed=0), groups=("one",) * 40)
    with refused(DataError, "no class of train has two groups", "--set linear.rates=[0.1]"):
        predict("linear", train, train)


def test_one_rate_is_taken_as_it_is() -> None:
    linear = evaluation_class("linear")
    evaluation = linear(linear.Config(rates=(0.1,), epochs=5))
    train = features(40, signal=12, seed=0)
    found = evaluation.predict(SUBJECT, train, train.values, CLASSES)
    assert found.details == {"rate": 0.1}


def test_zero_shot_without_text_or_names_is_refused() -> None:
    evaluation = evaluation_of("zero-shot")
    with refused(DataError, "zero-shot: pixels was not trained with text"):
        evaluation.check(Subject(name="pixels"), CLASSES)
    with refused(DataError, "the set does not name its classes; add classnames.txt"):
        evaluation.check(SUBJECT, Classes(num=4))


def test_names_are_embedded_in_every_template() -> None:
    asked: list[list[str]] = []

    def embed(texts: list[str]) -> Tensor:
        asked.append(texts)
        return torch.eye(4)[[len(asked) - 1] * len(texts)]

    zero_shot = evaluation_class("zero-shot")
    evaluation = zero_shot(zero_shot.Config(templates=("a {c}", "the {c} {wind}")))
    subject = replace(SUBJECT, text=embed)
    test = features(8, signal=12, seed=0)
    found = evaluation.predict(subject, None, test.values, CLASSES)
    assert asked[0] == ["a north", "the north {wind}"]
    assert torch.equal(found.labels, test.labels)
