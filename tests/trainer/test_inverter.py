"""The inverter against its definition, in float64."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from manifests.errors import ContractError
from manifests.latents import decode_latent, encode_latent
from tests.sets import refused
from trainer.errors import DataError
from trainer.testing.objectives import LATENT_DIM, make_batch, make_learner

SETTINGS = {"latent_dim": LATENT_DIM, "hidden": 12}


@pytest.mark.parametrize("class_weight", [0.0, 0.5])
def test_loss_is_the_squared_error_and_the_cross_entropy(class_weight: float) -> None:
    learner = make_learner("inverter", SETTINGS | {"class_weight": class_weight})
    batch = make_batch(learner)
    given: list[torch.Tensor] = []
    head = learner.objective.head  # type: ignore[attr-defined]
    head.register_forward_hook(lambda module, inputs, output: given.append(output.detach()))
    loss = learner(batch).total.item()
    rows, labels = given[0].double().tolist(), batch.labels.repeat_interleave(4).tolist()
    expected = 0.0
    for row, latent, label in zip(rows, batch.latents.double().tolist(), labels, strict=True):
        squares = [(a - b) ** 2 for a, b in zip(row[:LATENT_DIM], latent, strict=True)]
        expected += sum(squares) / LATENT_DIM / len(rows)
        if class_weight:
            logits = row[LATENT_DIM:]
            log_sum = math.log(sum(math.exp(logit) for logit in logits))
            expected += class_weight * (log_sum - logits[label]) / len(rows)
    assert loss == pytest.approx(expected, abs=1e-6)


def test_latents_of_another_size_are_refused() -> None:
    learner = make_learner("inverter", SETTINGS)
    batch = make_batch(learner)
    other = dataclasses.replace(batch, latents=batch.latents[:, :3])
    with refused(DataError, "latents have 3 numbers", "objective.latent_dim=3"):
        learner(other)


def test_a_latent_comes_back_from_its_text() -> None:
    latent = np.random.default_rng(0).standard_normal(7).astype(np.float32)
    np.testing.assert_array_equal(decode_latent(encode_latent(latent)), latent)
    assert encode_latent(np.ones(1)) == "AACAPw=="


@pytest.mark.parametrize("text", ["", "AA", "****", "AACAfw=="], ids=["none", "cut", "no", "inf"])
def test_texts_that_are_no_latent(text: str) -> None:
    with refused(ContractError, "is no latent"):
        decode_latent(text)
