"""The laws of evaluations (`trainer.evaluations`) as tests: each subclass tests one evaluation."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from manifests.foundation.settings import check
from trainer.errors import DataError
from trainer.evaluations import Classes, Evaluation, Prediction, evaluation_class
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.scoring import score

NUM_CLASSES = 4
NUM_FEATURES = 8
CLASSES = Classes(num=NUM_CLASSES, names=("north", "east", "south", "west"), templates=("a {c}",))


def embed_texts(texts: list[str]) -> Tensor:
    """Unit vectors [texts, NUM_CLASSES]: each text is the class whose name is its last word."""
    rows = [CLASSES.names.index(text.split()[-1]) for text in texts]
    return F.one_hot(torch.tensor(rows), NUM_CLASSES).float()


def embed_features(features: Tensor) -> Tensor:
    """The first NUM_CLASSES features, normalised: the space of `embed_texts`."""
    return F.normalize(features[:, :NUM_CLASSES], dim=1)


ENCODER = FrozenEncoder(
    name="toy",
    encode=lambda images: images.flatten(1).float(),
    input_px=8,
    facts={"name": "toy", "kind": "toy"},
    embed_texts=embed_texts,
    embed_features=embed_features,
)
"""An encoder with texts, so that zero-shot can be tested on it as well."""


def make_features(num_images: int, *, signal: float, seed: int) -> Features:
    """Random features of images whose labels are random, too.

    Args:
        num_images: An even number, as two images form a group.
        signal: Added to the feature whose number is the label: 12 separates the classes, 0 leaves
            nothing to learn.
        seed: Decides labels and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, NUM_CLASSES, (num_images // 2,), generator=generator)
    labels = labels.repeat_interleave(2)
    values = torch.randn(num_images, NUM_FEATURES, generator=generator)
    values[:, :NUM_CLASSES] += signal * F.one_hot(labels, NUM_CLASSES)
    return Features(
        values=values,
        labels=labels,
        groups=tuple(str(row // 2) for row in range(num_images)),
        keys=tuple(str(row) for row in range(num_images)),
        digests=("",) * num_images,
    )


class EvaluationLaws:
    """Set `name` and `settings` in a subclass whose name begins with `Test`."""

    name: ClassVar[str]
    """Name of the evaluation in the table, or its dotted path."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Settings that make the evaluation quick on some hundred images."""

    def make(self) -> Evaluation:
        """The evaluation under test."""
        kind = evaluation_class(self.name)
        return kind(check(kind.Config, self.settings, origin="laws", table=self.name))

    def predict(self, train: Features, test: Features) -> Prediction:
        """Predictions of a fresh evaluation."""
        return self.make().predict(ENCODER, train, test.values, CLASSES)

    def accuracy(self, train: Features, test: Features) -> float:
        """Accuracy of a fresh evaluation."""
        result = score(self.name, self.make(), ENCODER, train=train, test=test, classes=CLASSES)
        return result.accuracy

    def test_every_setting_has_a_default_and_is_json(self) -> None:
        config = evaluation_class(self.name).Config()
        assert config.model_config["frozen"]
        assert isinstance(json.loads(config.model_dump_json()), dict)

    def test_separable_features_give_a_perfect_score(self) -> None:
        train, test = (make_features(count, signal=12, seed=count) for count in (400, 200))
        result = score(self.name, self.make(), ENCODER, train=train, test=test, classes=CLASSES)
        assert (result.name, result.accuracy, result.num_test) == (self.name, 1, 200)
        assert result.details["mean_per_class"] == 1
        assert 0.9 < result.low < result.high <= 1
        assert json.loads(json.dumps(result.details)) == result.details

    def test_features_without_a_signal_are_at_chance(self) -> None:
        train, test = (make_features(count, signal=0, seed=count) for count in (800, 3000))
        assert 0.2 < self.accuracy(train, test) < 0.3

    def test_shuffled_labels_are_at_chance(self) -> None:
        train, test = (make_features(count, signal=3, seed=count) for count in (800, 3000))
        order = torch.randperm(3000, generator=torch.Generator().manual_seed(2))
        shuffled = replace(test, labels=test.labels[order])
        assert 0.2 < self.accuracy(train, shuffled) < 0.3

    def test_every_test_image_has_one_prediction_in_its_place(self) -> None:
        train, test = (make_features(count, signal=1, seed=count) for count in (200, 202))
        order = torch.randperm(202, generator=torch.Generator().manual_seed(2))
        prediction = self.predict(train, test)
        moved = self.predict(train, replace(test, values=test.values[order]))
        assert len(prediction.ranking) == 202
        assert torch.equal(moved.ranking, prediction.ranking[order])

    def test_predict_is_given_no_test_label(self) -> None:
        parameters = inspect.signature(evaluation_class(self.name).predict).parameters
        assert list(parameters) == ["self", "encoder", "train", "test_values", "classes"]

    def test_no_prediction_and_no_choice_depends_on_a_test_label(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        train, test = (make_features(200, signal=1, seed=seed) for seed in (0, 1))
        other = replace(test, labels=test.labels.roll(1), groups=test.groups[::-1])
        # Both scores come from one evaluation, so that nothing it keeps escapes notice.
        predictions: list[Prediction] = []
        evaluation = self.make()
        original = evaluation.predict

        def spy(*arguments: Any) -> Prediction:
            predictions.append(original(*arguments))
            return predictions[-1]

        monkeypatch.setattr(evaluation, "predict", spy)
        one = score(self.name, evaluation, ENCODER, train=train, test=test, classes=CLASSES)
        two = score(self.name, evaluation, ENCODER, train=train, test=other, classes=CLASSES)
        assert one.accuracy != two.accuracy
        assert torch.equal(predictions[0].ranking, predictions[1].ranking)
        assert predictions[0].details == predictions[1].details

    def test_same_arguments_give_the_same_and_leave_the_random_state(self) -> None:
        train, test = (make_features(200, signal=1, seed=seed) for seed in (0, 1))
        before = torch.get_rng_state()
        one, two = self.predict(train, test), self.predict(train, test)
        assert torch.equal(one.ranking, two.ranking)
        assert one.details == two.details
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_with_as_float32(self, dtype: torch.dtype) -> None:
        train, test = (make_features(200, signal=1, seed=seed) for seed in (0, 1))
        narrow = [replace(part, values=part.values.to(dtype)) for part in (train, test)]
        wide = [replace(part, values=part.values.float()) for part in narrow]
        assert torch.equal(self.predict(*narrow).ranking, self.predict(*wide).ranking)

    def test_class_that_train_does_not_have_is_refused(self) -> None:
        if not evaluation_class(self.name).needs_train:
            pytest.skip("learns nothing from train")
        train, test = (make_features(40, signal=1, seed=seed) for seed in (0, 1))
        fewer = replace(train, labels=train.labels.clamp(max=2))
        with pytest.raises(DataError, match=r"class 3 \(west\), which train does not have"):
            self.accuracy(fewer, test)
        single = replace(train, labels=torch.zeros_like(train.labels))
        with pytest.raises(DataError, match="train has one class, 0; expected at least two"):
            self.accuracy(single, test)
