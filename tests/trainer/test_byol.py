"""BYOL against its equations, in float64."""

from math import cos, pi

import numpy as np
import pytest
import torch

from trainer.objectives.byol import Byol
from trainer.testing.objectives import make_batch, make_learner

HEAD = {"head_hidden": 12, "head_out": 8}


def head(features: np.ndarray, weights: dict[str, torch.Tensor], name: str) -> np.ndarray:
    """Linear, batch norm with the statistics of the batch, ReLU, Linear."""
    w = {key: value.double().numpy() for key, value in weights.items()}
    hidden = features @ w[f"{name}.first.weight"].T
    normal = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    hidden = np.maximum(normal * w[f"{name}.norm.weight"] + w[f"{name}.norm.bias"], 0)
    return hidden @ w[f"{name}.last.weight"].T + w[f"{name}.last.bias"]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_loss_is_that_of_the_equations() -> None:
    learner = make_learner("byol", HEAD)
    objective = learner.objective
    assert isinstance(objective, Byol)
    with torch.no_grad():  # a teacher that is not the student
        for parameter in objective.teacher.parameters():
            parameter.mul_(1.1)
    seen: dict[str, list[np.ndarray]] = {"student": [], "teacher": []}
    for name, tower in (("student", learner.encoder), ("teacher", objective.teacher.tower)):
        tower.register_forward_hook(
            lambda module, inputs, output, name=name: seen[name].append(
                output.detach().double().numpy()
            )
        )
    loss = learner(make_batch(learner)).total.item()
    weights = {name: value.detach() for name, value in objective.state_dict().items()}
    predictions = [
        unit(head(head(features, weights, "projector"), weights, "predictor"))
        for features in seen["student"]
    ]
    targets = [unit(head(features, weights, "teacher.projector")) for features in seen["teacher"]]
    # The teacher was shown the second crops first: each prediction is paired with the other crop.
    expected = sum(((p - t) ** 2).sum(1).mean() for p, t in zip(predictions, targets, strict=True))
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("step", [0, 30, 99])
def test_teacher_follows_with_the_momentum_of_the_paper(step: int) -> None:
    learner = make_learner("byol", HEAD)
    objective = learner.objective
    assert isinstance(objective, Byol)
    before = [p.clone().double() for p in objective.teacher.parameters()]
    with torch.no_grad():
        for parameter in (*learner.encoder.parameters(), *objective.projector.parameters()):
            parameter.add_(1.0)
    learner.after_step(step, 100)
    part = 1 - (1 - 0.996) * (cos(pi * step / 100) + 1) / 2
    for old, new in zip(before, objective.teacher.parameters(), strict=True):
        expected = part * old + (1 - part) * (old + 1)
        torch.testing.assert_close(new.double(), expected, atol=1e-6, rtol=0)


def test_teacher_is_given_no_gradient_and_the_tower_is_exported() -> None:
    learner = make_learner("byol", HEAD)
    learner(make_batch(learner)).total.backward()
    objective = learner.objective
    assert isinstance(objective, Byol)
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert learner.exports()["image"] is learner.encoder
