"""The laws of trainer.evaluations, for every entry of the table and for somebody else's class."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from manifests.foundation.errors import ConfigError, PluginError
from manifests.foundation.settings import Table
from tests.sets import refused
from trainer.classifiers import rank_classes
from trainer.errors import DataError
from trainer.evaluations import (
    EVALUATIONS,
    Classes,
    Prediction,
    choose_evaluations,
    evaluation_class,
    require_possible,
)
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.scores import score
from trainer.testing.evaluations import (
    CLASSES,
    ENCODER,
    EvaluationLaws,
    RetrievalLaws,
    make_features,
)


class TestKnn(EvaluationLaws):
    name = "knn"
    settings = {"neighbours": 5}  # noqa: RUF012


class TestLinear(EvaluationLaws):
    name = "linear"
    settings = {"epochs": 10, "batch_size": 256, "min_steps": 1}  # noqa: RUF012


class TestLinearPlain(EvaluationLaws):
    name = "linear-plain"
    settings = {"epochs": 30, "batch_size": 256, "min_steps": 1}  # noqa: RUF012


class TestLinearAugmented(EvaluationLaws):
    name = "linear-augmented"
    settings = {"epochs": 30, "batch_size": 256}  # noqa: RUF012


class TestLogistic(EvaluationLaws):
    name = "logistic"
    settings = {"penalties": (1e-2, 1.0, 100.0), "max_iterations": 50}  # noqa: RUF012


class TestFewShot(EvaluationLaws):
    name = "few-shot"
    settings = {"ways": 4, "shots": 5, "episodes": 60}  # noqa: RUF012


class TestZeroShot(EvaluationLaws):
    name = "zero-shot"


class TestTextRetrieval(RetrievalLaws):
    name = "text-retrieval"


class TestImageRetrieval(RetrievalLaws):
    name = "image-retrieval"


class NearestMean:
    """An evaluation that somebody else might write."""

    class Config(Table):
        """Nothing can be set."""

    tasks = ("classification",)
    needs_train = True
    needs_crops = False

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, encoder: FrozenEncoder, classes: Classes) -> None:
        pass

    def predict(
        self,
        encoder: FrozenEncoder,
        train: Features | None,
        test_values: Tensor,
        classes: Classes,
    ) -> Prediction:
        assert train is not None
        values = train.values.float()
        means = [values[train.labels == label].mean(0) for label in range(classes.num)]
        distances = torch.cdist(test_values.float(), torch.stack(means))
        return Prediction(ranking=rank_classes(-distances))


class TestDottedPath(EvaluationLaws):
    name = f"{__name__}:NearestMean"


class Peeking(NearestMean):
    """An evaluation that breaks a law: its predictions depend on the other test images."""

    def predict(
        self,
        encoder: FrozenEncoder,
        train: Features | None,
        test_values: Tensor,
        classes: Classes,
    ) -> Prediction:
        prediction = super().predict(encoder, train, test_values, classes)
        return Prediction(ranking=prediction.ranking.sort(0).values)


def test_an_evaluation_that_breaks_a_law_fails() -> None:
    laws = TestDottedPath()
    laws.name = f"{__name__}:Peeking"  # type: ignore[misc]
    with pytest.raises(AssertionError):
        laws.test_every_test_image_has_one_prediction_in_its_place()


def test_every_entry_is_tested() -> None:
    learned = TestKnn, TestLinear, TestLinearPlain, TestLinearAugmented, TestLogistic, TestFewShot
    named = {laws.name for laws in (*learned, TestZeroShot)}
    elsewhere = {laws.name for laws in (TestTextRetrieval, TestImageRetrieval)}
    assert named | elsewhere == set(EVALUATIONS)


def test_two_evaluations_of_one_name_are_refused() -> None:
    with refused(ConfigError, "--with knn: two evaluations are named knn; give one"):
        choose_evaluations(["knn", "knn"], {})


def test_fewer_images_than_neighbours_are_refused() -> None:
    few = make_features(4, signal=1, seed=0)
    with refused(DataError, "train has 4 images and knn.neighbours is 5"):
        TestKnn().predict(few, few)


def test_a_rate_that_cannot_be_chosen_is_refused() -> None:
    train = replace(make_features(40, signal=1, seed=0), groups=("one",) * 40)
    with refused(DataError, "no class of train has two groups", "--set linear.rates=[0.1]"):
        TestLinear().predict(train, train)


def test_a_rate_of_the_augmented_probe_that_cannot_be_chosen_is_refused() -> None:
    train = replace(make_features(40, signal=1, seed=0), groups=("one",) * 40)
    with refused(DataError, "two groups", "--set linear-augmented.rates=[0.1]"):
        TestLinearAugmented().predict(train, train)


def test_an_evaluation_of_another_task_is_refused() -> None:
    captions = replace(CLASSES, task="retrieval", metric="recall@1")
    with refused(DataError, "knn: is for sets of classification or multilabel", "of retrieval"):
        require_possible("knn", TestKnn().make(), ENCODER, captions)


def test_captions_are_ranked_in_sets_of_captions_alone() -> None:
    test = make_features(40, signal=1, seed=0)
    with refused(PluginError, "evaluation text-retrieval: ranks captions in a set of class"):
        score(
            "text-retrieval",
            TestTextRetrieval().make(),
            replace(ENCODER, embed_texts=lambda texts: torch.ones(len(texts), 4)),
            train=None,
            test=replace(test, captions=(("x",),) * 40),
            classes=CLASSES,
        )


def test_a_set_of_several_classes_wants_a_score_for_each() -> None:
    test = replace(make_features(40, signal=1, seed=0), label_sets=((0, 1),) * 40)
    classes = replace(CLASSES, task="multilabel", metric="map-11")
    with refused(PluginError, "evaluation mean: scores are None, expected finite ones for 40"):
        score(
            "mean",
            TestDottedPath().make(),
            ENCODER,
            train=test,
            test=test,
            classes=classes,
        )


def test_a_penalty_that_cannot_be_chosen_is_refused() -> None:
    train = replace(make_features(40, signal=1, seed=0), groups=("one",) * 40)
    with refused(DataError, "no class of train has two groups", "--set logistic.penalties=[1.0]"):
        TestLogistic().predict(train, train)


def test_episodes_that_cannot_be_drawn_are_refused() -> None:
    train = make_features(16, signal=1, seed=0)
    with refused(DataError, "few-shot: fewer than 4 classes of train have images of 5 groups"):
        TestFewShot().predict(train, train)


def test_an_episode_is_scored_on_the_images_of_its_classes() -> None:
    train, test = (make_features(400, signal=12, seed=seed) for seed in (0, 1))
    kind = evaluation_class("few-shot")
    evaluation = kind(kind.Config(ways=2, shots=1, episodes=9))
    result = score("few-shot", evaluation, ENCODER, train=train, test=test, classes=CLASSES)
    # Two classes of four are known to an episode: images of the others would be wrong.
    assert result.value == 1
    assert (result.num_test, result.details["num_episodes"]) == (400, 9)
    only = torch.tensor([0] * 200 + [1] * 200)
    result = score(
        "few-shot", evaluation, ENCODER, train=train, test=replace(test, labels=only),
        classes=CLASSES,
    )  # fmt: skip
    assert result.details["num_episodes"] < 9
    assert result.value < 0.9


def test_a_single_penalty_is_used_without_a_choice() -> None:
    kind = evaluation_class("logistic")
    train = make_features(40, signal=12, seed=0)
    prediction = kind(kind.Config(penalties=(2.0,))).predict(ENCODER, train, train.values, CLASSES)
    assert prediction.details["penalty"] == 2.0
    assert prediction.details["is_optimal"]
    assert "held_out_metric" not in prediction.details


def test_a_single_rate_is_used_without_a_choice() -> None:
    linear = evaluation_class("linear")
    evaluation = linear(linear.Config(rates=(0.1,), epochs=5, min_steps=7))
    train = make_features(40, signal=12, seed=0)
    prediction = evaluation.predict(ENCODER, train, train.values, CLASSES)
    assert prediction.details == {"rate": 0.1, "epochs": 7}


def test_two_rows_of_a_table_are_the_probe_with_and_without_batch_norm() -> None:
    chosen = choose_evaluations(["linear", "linear-plain"], {"linear-plain": {"epochs": 3}})
    assert [chosen[name].settings["batch_norm"] for name in chosen] == [True, False]
    assert [chosen[name].settings["epochs"] for name in chosen] == [90, 3]
    train = replace(make_features(40, signal=1, seed=0), groups=("one",) * 40)
    with refused(DataError, "linear-plain: no class", "--set linear-plain.rates=[0.1]"):
        TestLinearPlain().predict(train, train)


@pytest.mark.slow
def test_a_thousand_images_are_learned_to_the_optimum() -> None:
    digits = load_digits()
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    values, labels = (torch.tensor(part)[order] for part in (digits.data, digits.target))
    keys = tuple(map(str, range(1797)))
    train = Features(
        values=values[:1000].float(),
        labels=labels[:1000],
        groups=keys[:1000],
        keys=keys[:1000],
        digests=("",) * 1000,
    )

    def accuracy(name: str, **settings: Any) -> float:
        kind = evaluation_class(name)
        prediction = kind(kind.Config(**settings)).predict(
            ENCODER, train, values[1000:].float(), Classes(num=10)
        )
        return float((prediction.ranking[:, 0] == labels[1000:]).double().mean())

    optimum = accuracy("logistic", penalties=(1e-2, 1.0))
    assert accuracy("linear", min_steps=1) < optimum - 0.01
    assert abs(accuracy("linear") - optimum) < 0.005


def test_zero_shot_without_text_or_names_is_refused() -> None:
    evaluation = TestZeroShot().make()
    with refused(DataError, "zero-shot: pixels was not trained with text"):
        evaluation.check(replace(ENCODER, name="pixels", embed_texts=None), CLASSES)
    with refused(DataError, "the set does not name its classes; add classnames.txt"):
        evaluation.check(ENCODER, Classes(num=4))


def test_names_are_embedded_in_every_template() -> None:
    embedded: list[list[str]] = []

    def embed(texts: list[str]) -> Tensor:
        embedded.append(texts)
        return torch.eye(4)[[len(embedded) - 1] * len(texts)]

    zero_shot = evaluation_class("zero-shot")
    evaluation = zero_shot(zero_shot.Config(templates=("a {c}", "the {c} {wind}")))
    encoder = replace(ENCODER, embed_texts=embed)
    test = make_features(8, signal=12, seed=0)
    prediction = evaluation.predict(encoder, None, test.values, CLASSES)
    assert embedded[0] == ["a north", "the north {wind}"]
    assert torch.equal(prediction.ranking[:, 0], test.labels)
