"""MoCo v2 against its algorithm, in float64."""

import math

import pytest
import torch

from tests.sets import refused
from trainer.errors import DataError
from trainer.objectives.moco import Moco
from trainer.testing.objectives import make_batch, make_learner

SETTINGS = {"head_hidden": 12, "head_out": 8, "queue": 20, "momentum": 0.9}


def test_loss_is_that_of_the_algorithm_and_keys_enter_the_queue() -> None:
    learner = make_learner("moco", SETTINGS)
    objective = learner.objective
    assert isinstance(objective, Moco)
    with torch.no_grad():  # a teacher that is not the student
        for parameter in objective.teacher.parameters():
            parameter.mul_(1.1)
    seen: dict[str, torch.Tensor] = {}
    for name, module in (("query", objective.head), ("key", objective.teacher)):
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output.detach().double()})
        )
    queue = objective.queue.double().clone()
    loss = learner(make_batch(learner)).total.item()
    queries, keys = (torch.nn.functional.normalize(seen[n], dim=1) for n in ("query", "key"))
    expected = 0.0
    for query, key in zip(queries, keys, strict=True):
        positive = math.exp(float(query @ key) / 0.2)
        negatives = sum(math.exp(float(query @ other) / 0.2) for other in queue)
        expected -= math.log(positive / (positive + negatives)) / len(queries)
    assert loss == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(objective.queue[:6].double(), keys, atol=1e-6, rtol=0)
    torch.testing.assert_close(objective.queue[6:].double(), queue[6:])


def test_the_queue_is_a_ring() -> None:
    learner = make_learner("moco", SETTINGS)
    batch = make_batch(learner)
    for _ in range(4):  # 24 keys into 20 places
        learner(batch)
    assert learner.objective.place.item() == 4  # type: ignore[attr-defined]


def test_the_teacher_is_a_moving_average() -> None:
    learner = make_learner("moco", SETTINGS)
    before = [p.clone() for p in learner.objective.teacher.parameters()]  # type: ignore[attr-defined]
    with torch.no_grad():
        for parameter in learner.encoder.parameters():
            parameter.add_(1.0)
        for parameter in learner.objective.head.parameters():  # type: ignore[attr-defined]
            parameter.add_(1.0)
    learner.after_step(0, 1)
    after = list(learner.objective.teacher.parameters())  # type: ignore[attr-defined]
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_more_keys_than_places_are_refused() -> None:
    learner = make_learner("moco", SETTINGS | {"queue": 5})
    with refused(DataError, "6 views and the queue 5 places"):
        learner(make_batch(learner))
