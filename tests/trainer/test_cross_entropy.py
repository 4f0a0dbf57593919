"""The objective cross-entropy against its definition, in float64."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.sets import refused
from trainer.errors import DataError
from trainer.objectives import Towers, objective_class
from trainer.testing.objectives import make_batch, make_learner


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_smoothed_cross_entropy(smoothing: float) -> None:
    learner = make_learner("cross-entropy", {"label_smoothing": smoothing})
    batch = make_batch(learner)
    logits: list[torch.Tensor] = []
    classifier = learner.objective.classifier  # type: ignore[attr-defined]
    classifier.register_forward_hook(lambda module, inputs, output: logits.append(output))
    terms = learner(batch)
    (values,) = (output.detach().double().numpy() for output in logits)
    labels = np.repeat(batch.labels.numpy(), 4)
    log_probs = values - np.log(np.exp(values).sum(1, keepdims=True))
    target = np.full((24, 3), smoothing / 3)
    target[np.arange(24), labels] += 1 - smoothing
    assert terms.total.item() == pytest.approx(-(target * log_probs).sum(1).mean(), abs=1e-6)
    expected = (values.argmax(1) == labels).mean()
    assert terms.parts["accuracy"].item() == pytest.approx(expected)


def test_one_group_is_enough_for_a_loss_and_a_gradient() -> None:
    learner = make_learner("cross-entropy", {})
    batch = make_batch(learner)
    alone = dataclasses.replace(
        batch,
        images=(batch.images[0][:4],),
        colours=(batch.colours[0][:4],),
        boxes=(batch.boxes[0][:4],),
        ids=batch.ids[:1],
        labels=batch.labels[:1],
        captions=batch.captions[:1],
    )
    loss = learner(alone).total
    loss.backward()
    assert loss.isfinite()
    classifier = learner.objective.classifier  # type: ignore[attr-defined]
    assert classifier.weight.grad.any()
    assert next(learner.encoder.parameters()).grad.any()


def test_one_class_is_refused() -> None:
    kind = objective_class("cross-entropy")
    with refused(DataError, "are 1 classes", "expected 2 to"):
        kind(kind.Config(), Towers(image=torch.nn.Identity(), num_features=4), ("red",))
