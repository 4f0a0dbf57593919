"""Softmax regression beside scikit-learn's, and beside autograd in one piece."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from trainer import logistic
from trainer.logistic import (
    PAPER_PENALTIES,
    LogisticModel,
    LogisticRecipe,
    choose_penalty,
    fit_logistic,
)

RAW = LogisticRecipe(standardize=False)


def problem(num_images: int = 300, *, num_classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping clouds in twelve correlated dimensions of different scales."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % num_classes
    values = torch.randn(num_images, 12, generator=generator) + F.one_hot(labels, 12)
    mixed = values @ torch.randn(12, 12, generator=torch.Generator().manual_seed(9))
    return mixed * torch.logspace(-1, 0.5, 12) + 0.3, labels


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    return float((predicted == labels).double().mean())


@pytest.mark.parametrize("penalty", [1e-2, 1.0, 100.0])
def test_several_classes_are_as_many_regressions_of_scikit_learn(penalty: float) -> None:
    values, labels = problem()
    targets = F.one_hot(labels, 5).bool() | F.one_hot(labels.flip(0), 5).bool()
    model = fit_logistic(values, targets, num_classes=5, penalty=penalty, recipe=RAW)
    assert model.is_optimal
    for label in range(5):
        theirs = LogisticRegression(C=1 / penalty, tol=1e-9, max_iter=10_000)
        theirs.fit(values.double().numpy(), targets[:, label].numpy())
        np.testing.assert_allclose(
            model.logits(values)[:, label],
            theirs.decision_function(values.double().numpy()),
            rtol=1e-3,
            atol=2e-3,
        )


def test_penalty_of_several_classes_is_chosen_by_what_is_judged() -> None:
    values, labels = problem(600)
    targets = F.one_hot(labels, 5).bool()
    targets[:7] = False  # images of no class are allowed
    chosen = choose_penalty(
        values,
        targets,
        torch.arange(600),
        num_classes=5,
        judge=lambda logits, truth: float(logits.shape == truth.shape) - float(logits.abs().mean()),
        penalties=(1e-2, 1e3),
        recipe=RAW,
    )
    assert chosen is not None
    assert chosen.penalty == 1e3  # whose logits are nearer to 0


@pytest.mark.parametrize("penalty", [1e-2, 1.0, 100.0])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_solution_is_that_of_scikit_learn(penalty: float, num_classes: int) -> None:
    values, labels = problem(num_classes=num_classes)
    model = fit_logistic(values, labels, num_classes=num_classes, penalty=penalty, recipe=RAW)
    # Two classes are one logit in scikit-learn. As two logits with opposite weights the penalty
    # counts them both, so half of it is the same problem.
    share = 2 if num_classes == 2 else 1
    theirs = LogisticRegression(C=share / penalty, tol=1e-9, max_iter=10_000)
    theirs.fit(values.double().numpy(), labels.numpy())
    assert model.is_optimal
    probabilities = model.logits(values).softmax(dim=1)
    expected = theirs.predict_proba(values.double().numpy())
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)
    if num_classes == 2:
        difference = model.weight[:, 1] - model.weight[:, 0]
        np.testing.assert_allclose(difference, theirs.coef_[0], rtol=1e-3, atol=1e-3)
    else:
        centred = model.weight - model.weight.mean(dim=1, keepdim=True)
        np.testing.assert_allclose(centred.T, theirs.coef_, rtol=1e-3, atol=1e-3)
        bias = theirs.intercept_ - theirs.intercept_.mean()
        np.testing.assert_allclose(model.bias - model.bias.mean(), bias, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("chunk", [7, 300, 1 << 23])
def test_gradient_is_zero_by_autograd_whatever_the_chunks(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "_CHUNK_NUMBERS", chunk)
    values, labels = problem()
    model = fit_logistic(values, labels, num_classes=5, penalty=0.5, recipe=LogisticRecipe())
    standard = (values - values.mean(dim=0)) / values.std(dim=0, correction=0)
    weight, bias = model.weight.clone().requires_grad_(), model.bias.clone().requires_grad_()
    loss = F.cross_entropy(standard.double() @ weight + bias, labels, reduction="sum")
    (loss + 0.25 * weight.square().sum()).div(len(labels)).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    # Standardizing in float32 and an epsilon in the scale are left of the difference.
    assert float(weight.grad.abs().max()) < 3e-6
    assert float(bias.grad.abs().max()) < 3e-6


def test_a_start_saves_iterations_and_does_not_move_the_optimum() -> None:
    values, labels = problem()

    def fit(penalty: float, start: LogisticModel | None = None) -> LogisticModel:
        return fit_logistic(
            values, labels, num_classes=5, penalty=penalty, recipe=LogisticRecipe(), start=start
        )

    alone, warm = fit(0.1), fit(0.1, fit(0.18))
    assert warm.iterations < alone.iterations
    torch.testing.assert_close(warm.weight, alone.weight, rtol=0, atol=1e-3)


def test_few_iterations_are_said_to_be_few() -> None:
    values, labels = problem()
    few = LogisticRecipe(max_iterations=2)
    model = fit_logistic(values, labels, num_classes=5, penalty=1e-3, recipe=few)
    assert (model.iterations, model.is_optimal) == (2, False)


def test_penalty_is_chosen_where_held_out_metric_is_highest() -> None:
    values, labels = problem(600)
    groups = torch.arange(300).repeat_interleave(2)
    chosen = choose_penalty(
        values,
        groups % 5,
        groups,
        num_classes=5,
        judge=accuracy,
        penalties=(1e5, 1.0),
        recipe=LogisticRecipe(),
    )
    assert chosen is not None
    assert chosen.num_held_out == 120
    assert list(chosen.held_out_metric) == [1e5, 1.0]
    assert chosen.held_out_metric[chosen.penalty] == max(chosen.held_out_metric.values())
    few = values[:5], labels[:5], groups[:5]
    assert choose_penalty(*few, num_classes=5, judge=accuracy, recipe=RAW) is None


def test_sweep_is_that_of_the_papers() -> None:
    assert len(PAPER_PENALTIES) == 45
    np.testing.assert_allclose(PAPER_PENALTIES, np.logspace(-6, 5, 45))


def test_choosing_is_never_given_what_is_reported() -> None:
    for function in (choose_penalty, fit_logistic, LogisticModel.predict):
        assert not [name for name in inspect.signature(function).parameters if "test" in name]


def test_nothing_is_random() -> None:
    values, labels = problem(100)
    before = torch.get_rng_state()
    one, two = (
        fit_logistic(values, labels, num_classes=5, penalty=1.0, recipe=RAW) for _ in range(2)
    )
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(torch.get_rng_state(), before)
