"""The laws of evaluations (`trainer.evaluations`) as tests: each subclass tests one evaluation.

Those that find captions and images have laws of their own: RetrievalLaws.
"""

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
from trainer.data.augment import AugmentConfig
from trainer.errors import DataError
from trainer.evaluations import Classes, Evaluation, Prediction, evaluation_class
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.scores import Score, score

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

    def crops(augment: AugmentConfig, *, seed: int, epoch: int) -> Tensor:
        """Features a little beside those of the whole images, others in each epoch."""
        jitter = torch.Generator().manual_seed(1000 * seed + epoch)
        return values + 0.1 * torch.randn(values.shape, generator=jitter)

    return Features(
        crops=crops,
        values=values,
        labels=labels,
        groups=tuple(str(row // 2) for row in range(num_images)),
        keys=tuple(str(row) for row in range(num_images)),
        digests=("",) * num_images,
    )


def make_label_sets(num_images: int, *, signal: float, seed: int) -> Features:
    """Random features of images that have each class or not, as it comes.

    Args:
        signal: Added to the features whose numbers are the classes: 12 separates the classes, 0
            leaves nothing to learn.
        seed: Decides classes and noise.
    """
    features = make_features(num_images, signal=0, seed=seed)
    targets = (
        torch.rand(num_images, NUM_CLASSES, generator=torch.Generator().manual_seed(seed)) < 0.4
    )
    values = features.values.clone()
    values[:, :NUM_CLASSES] += signal * targets
    sets = tuple(tuple(row.nonzero().squeeze(1).tolist()) for row in targets)
    labels = torch.full_like(features.labels, -1)
    return replace(features, values=values, labels=labels, label_sets=sets)


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
        return result.value

    def several(self, train: Features, test: Features) -> Score:
        """The score on images of several classes."""
        if "multilabel" not in evaluation_class(self.name).tasks:
            pytest.skip("predicts one class for an image")
        classes = replace(CLASSES, task="multilabel", metric="map-11")
        return score(self.name, self.make(), ENCODER, train=train, test=test, classes=classes)

    def test_every_setting_has_a_default_and_is_json(self) -> None:
        config = evaluation_class(self.name).Config()
        assert config.model_config["frozen"]
        assert isinstance(json.loads(config.model_dump_json()), dict)

    def test_separable_features_give_a_perfect_score(self) -> None:
        train, test = (make_features(count, signal=12, seed=count) for count in (400, 200))
        result = score(self.name, self.make(), ENCODER, train=train, test=test, classes=CLASSES)
        assert (result.name, result.metric, result.value) == (self.name, "top-1", 1)
        assert result.num_test == 200
        assert result.details["mean_per_class"] == 1
        assert 0.9 < result.low < result.high <= 1
        assert json.loads(json.dumps(result.details)) == result.details

    def test_metric_of_the_set_is_what_is_scored(self) -> None:
        train, test = (make_features(count, signal=2, seed=count) for count in (400, 200))
        keep = (test.labels > 0) | (torch.arange(200) % 10 == 0)  # few images of the first class
        rows = keep.nonzero().squeeze(1).tolist()
        fewer = Features(
            values=test.values[keep],
            labels=test.labels[keep],
            groups=tuple(test.groups[row] for row in rows),
            keys=tuple(test.keys[row] for row in rows),
            digests=tuple(test.digests[row] for row in rows),
        )
        classes = replace(CLASSES, metric="mean-per-class")
        result = score(self.name, self.make(), ENCODER, train=train, test=fewer, classes=classes)
        assert result.metric == "mean-per-class"
        assert result.value == pytest.approx(result.details["mean_per_class"])
        assert result.low < result.value < result.high

    def test_several_classes_of_an_image_are_separated(self) -> None:
        train, test = (make_label_sets(count, signal=12, seed=count) for count in (400, 200))
        result = self.several(train, test)
        assert (result.metric, result.num_test) == ("map-11", 200)
        assert 0.95 < result.value <= 1
        assert result.low < result.value
        assert json.loads(json.dumps(result.details)) == result.details

    def test_several_classes_without_a_signal_are_at_chance(self) -> None:
        train, test = (make_label_sets(count, signal=0, seed=count) for count in (800, 3000))
        assert 0.37 < self.several(train, test).value < 0.5

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
        assert one.value != two.value
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


def caption_of(image: int, caption: int, *, signal: float) -> str:
    """A text whose embedding lies near that of an image, as far as the signal goes."""
    return f"{image} {caption} {signal}"


def _of_image(image: int) -> Tensor:
    return torch.randn(NUM_FEATURES, generator=torch.Generator().manual_seed(image))


def _embed_captions(texts: list[str]) -> Tensor:
    rows = []
    for text in texts:
        image, caption, signal = text.split()
        noise = torch.Generator().manual_seed(1000 + 10 * int(image) + int(caption))
        rows.append(
            float(signal) * _of_image(int(image)) + torch.randn(NUM_FEATURES, generator=noise)
        )
    return F.normalize(torch.stack(rows), dim=1)


CAPTION_ENCODER = replace(
    ENCODER,
    embed_texts=_embed_captions,
    embed_features=lambda features: F.normalize(features, dim=1),
)
"""An encoder of captions."""
CAPTIONS = Classes(num=0, task="retrieval", metric="recall@1")


def make_captions(num_images: int, *, signal: float) -> Features:
    """Images with two captions each, of which a `signal` of 100 tells which image is theirs."""
    features = make_features(num_images, signal=0, seed=0)
    return replace(
        features,
        values=torch.stack([_of_image(image) for image in range(num_images)]),
        labels=torch.full((num_images,), -1),
        captions=tuple(
            tuple(caption_of(image, caption, signal=signal) for caption in range(2))
            for image in range(num_images)
        ),
    )


class RetrievalLaws:
    """Set `name` in a subclass whose name begins with `Test`."""

    name: ClassVar[str]
    """Name of the evaluation in the table, or its dotted path."""

    def make(self) -> Evaluation:
        """The evaluation under test."""
        kind = evaluation_class(self.name)
        return kind(kind.Config())

    def predict(self, test: Features) -> Prediction:
        """Predictions of a fresh evaluation."""
        assert test.captions is not None
        flat = tuple(caption for own in test.captions for caption in own)
        classes = replace(CAPTIONS, captions=flat)
        return self.make().predict(CAPTION_ENCODER, None, test.values, classes)

    def score(self, test: Features) -> Score:
        """The score of a fresh evaluation."""
        return score(
            self.name, self.make(), CAPTION_ENCODER, train=None, test=test, classes=CAPTIONS
        )

    def test_every_setting_has_a_default_and_is_json(self) -> None:
        config = evaluation_class(self.name).Config()
        assert config.model_config["frozen"]
        assert isinstance(json.loads(config.model_dump_json()), dict)

    def test_it_is_for_sets_of_captions_alone(self) -> None:
        assert tuple(evaluation_class(self.name).tasks) == ("retrieval",)

    def test_captions_that_tell_their_image_are_all_found(self) -> None:
        result = self.score(make_captions(100, signal=100))
        assert (result.name, result.metric, result.value) == (self.name, "recall@1", 1)
        assert (result.details["recall@5"], result.details["recall@10"]) == (1, 1)
        assert 0.9 < result.low < result.high <= 1
        assert json.loads(json.dumps(result.details)) == result.details

    def test_captions_that_tell_nothing_are_at_chance(self) -> None:
        result = self.score(make_captions(200, signal=0))
        assert result.value < 0.04
        assert result.value <= result.details["recall@5"] <= result.details["recall@10"] < 0.15

    def test_an_encoder_without_a_difference_is_at_chance(self) -> None:
        test = make_captions(200, signal=100)
        assert self.score(replace(test, values=torch.ones_like(test.values))).value <= 0.04

    def test_every_query_has_one_prediction(self) -> None:
        test = make_captions(30, signal=1)
        prediction = self.predict(test)
        assert len(prediction.ranking) == {"captions": 30, "images": 60}[prediction.ranks]
        assert self.score(test).num_test == len(prediction.ranking)
        for row in prediction.ranking.tolist():
            assert len(set(row)) == 10

    def test_predict_is_not_told_which_image_a_caption_belongs_to(self) -> None:
        parameters = inspect.signature(evaluation_class(self.name).predict).parameters
        assert list(parameters) == ["self", "encoder", "train", "test_values", "classes"]
        test = make_captions(30, signal=1)
        assert test.captions is not None
        flat = [caption for own in test.captions for caption in own]
        # The same captions in the same order, of which the first image has one and the last three.
        other = replace(
            test,
            captions=(
                (flat[0],),
                *((flat[2 * i - 1], flat[2 * i]) for i in range(1, 29)),
                tuple(flat[57:]),
            ),
        )
        assert torch.equal(self.predict(test).ranking, self.predict(other).ranking)
        assert self.score(test).value != self.score(other).value

    def test_same_arguments_give_the_same_and_leave_the_random_state(self) -> None:
        test = make_captions(30, signal=1)
        before = torch.get_rng_state()
        assert torch.equal(self.predict(test).ranking, self.predict(test).ranking)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_with_as_float32(self, dtype: torch.dtype) -> None:
        test = make_captions(30, signal=1)
        narrow = replace(test, values=test.values.to(dtype))
        wide = replace(narrow, values=narrow.values.float())
        assert torch.equal(self.predict(narrow).ranking, self.predict(wide).ranking)

    def test_an_encoder_without_texts_is_refused(self) -> None:
        with pytest.raises(DataError, match=f"{self.name}: pixels was not trained with text"):
            self.make().check(replace(ENCODER, name="pixels", embed_texts=None), CAPTIONS)
