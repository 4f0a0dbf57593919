"""What is measured on a set, beside loops in float64 and beside scikit-learn."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, precision_recall_curve
from torch import Tensor

from trainer.set_metrics import (
    average_precision_11,
    image_weights,
    mean_average_precision,
    mean_per_class,
    mean_per_class_interval,
    resampled_interval,
)


def problem(num_images: int = 60, num_classes: int = 4, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores on a coarse grid, so that many are equal, and classes that they half tell."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.rand(num_images, num_classes, generator=generator) < 0.3
    noise = torch.randn(num_images, num_classes, generator=generator)
    return ((targets + noise) * 4).round() / 4, targets


def loop_of_one(scores: Tensor, truth: Tensor) -> float:
    """The definition, threshold by threshold, with exact fractions."""
    num_relevant = int(truth.sum())
    points = []
    for threshold in sorted(set(scores.tolist())):
        taken = [bool(t) for s, t in zip(scores, truth, strict=True) if s >= threshold]
        points.append((Fraction(sum(taken), num_relevant), Fraction(sum(taken), len(taken))))
    tenths = [
        max((precision for recall, precision in points if recall >= Fraction(k, 10)), default=0)
        for k in range(11)
    ]
    return float(sum(tenths) / Fraction(11))


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_the_definition(seed: int) -> None:
    scores, targets = problem(seed=seed)
    expected = [loop_of_one(scores[:, c], targets[:, c]) for c in range(4)]
    np.testing.assert_allclose(average_precision_11(scores, targets), expected, atol=1e-12)


def test_average_precision_is_that_of_the_curve_of_scikit_learn() -> None:
    # Seven relevant images: no recall but 0 and 1 lies on a tenth, where floats may miss it.
    generator = torch.Generator().manual_seed(3)
    truth = torch.zeros(50, dtype=torch.bool)
    truth[torch.randperm(50, generator=generator)[:7]] = True
    scores = torch.randn(50, generator=generator) + truth
    precision, recall, _ = precision_recall_curve(truth.numpy(), scores.numpy())
    precision, recall = precision[:-1], recall[:-1]  # the point (0, 1) is of scikit-learn alone
    expected = np.mean([precision[recall >= t - 1e-12].max() for t in np.linspace(0, 1, 11)])
    assert average_precision_11(scores[:, None], truth[:, None]).item() == pytest.approx(expected)


def test_example_of_the_docstring_and_a_class_that_no_image_has() -> None:
    scores = torch.tensor([[3.0, 1.0], [2.0, 1.0], [1.0, 1.0]])
    targets = torch.tensor([[True, False], [False, False], [True, False]])
    first, second = average_precision_11(scores, targets).tolist()
    assert first == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert np.isnan(second)
    only = torch.arange(3)
    assert mean_average_precision(scores, targets, only).value == pytest.approx(first)


def test_order_of_equal_scores_does_not_matter() -> None:
    scores, targets = problem(200)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    moved = average_precision_11(scores[order], targets[order])
    assert torch.equal(average_precision_11(scores, targets), moved)


def test_weights_are_as_if_images_came_again() -> None:
    scores, targets = problem()
    weights = torch.arange(60) % 4
    again = torch.arange(60).repeat_interleave(weights)
    expected = average_precision_11(scores[again], targets[again])
    np.testing.assert_allclose(average_precision_11(scores, targets, weights), expected)
    labels, correct = torch.arange(60) % 3, targets[:, 0]
    by_weight = mean_per_class(correct, labels, weights.double())
    assert by_weight == pytest.approx(mean_per_class(correct[again], labels[again]))


def test_mean_per_class_is_the_balanced_accuracy_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 30, (200,), generator=generator) ** 2 // 30
    predicted = torch.where(torch.rand(200, generator=generator) < 0.6, labels, labels.roll(1))
    labels, predicted = labels * 2, predicted * 2  # every second class has no image
    expected = balanced_accuracy_score(labels.numpy(), predicted.numpy())
    assert mean_per_class(predicted == labels, labels) == pytest.approx(expected)
    weights = image_weights(labels, "mean-per-class")
    mean = ((predicted == labels) * weights).sum() / weights.sum()
    assert float(mean) == pytest.approx(expected)
    assert image_weights(labels, "top-1").tolist() == [1.0] * 200


def test_interval_of_a_mean_is_as_wide_as_that_of_independent_images() -> None:
    correct = torch.arange(400) % 5 > 0
    labels = torch.zeros(400, dtype=torch.int64)
    interval = mean_per_class_interval(correct, labels, torch.arange(400))
    assert interval.value == 0.8
    half = 1.96 * (0.8 * 0.2 / 400) ** 0.5
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.15)
    # Images of one group are as one image: groups of four of a kind make it twice as wide.
    kinds = (torch.arange(100) % 5 > 0).repeat_interleave(4)
    wide = mean_per_class_interval(kinds, labels, torch.arange(100).repeat_interleave(4))
    ratio = (wide.high - wide.low) / (interval.high - interval.low)
    assert ratio == pytest.approx(2, rel=0.2)


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 6
    chance = torch.linspace(0.4, 0.9, 6)
    held = 0
    for _ in range(100):
        correct = torch.rand(120, generator=generator) < chance[labels]
        interval = mean_per_class_interval(correct, labels, torch.arange(120))
        held += interval.low <= float(chance.mean()) <= interval.high
    assert 88 <= held <= 100


def test_interval_of_a_perfect_score_is_not_a_point_and_nothing_is_random() -> None:
    before = torch.get_rng_state()
    targets = torch.eye(5, dtype=torch.bool).repeat(10, 1)
    interval = mean_average_precision(targets.double(), targets, torch.arange(50))
    assert interval.value == interval.high == 1
    assert 0.9 < interval.low < 1
    scores, classes = problem()
    groups = torch.arange(60) // 2
    one, two = (mean_average_precision(scores, classes, groups) for _ in range(2))
    assert one == two
    assert torch.equal(torch.get_rng_state(), before)


def test_none_right_is_an_interval_from_zero() -> None:
    interval = resampled_interval(lambda weights: 0.0, torch.arange(30))
    assert (interval.low, interval.value) == (0, 0)
    assert 0 < interval.high < 0.2
