"""SupCon, and SimCLR over pairs of views, against their definitions, in float64."""

import dataclasses
import math

import pytest
import torch

from trainer.models.head import ProjectionHead
from trainer.testing.objectives import make_batch, make_learner

SETTINGS = {"head_hidden": 12, "head_out": 8, "temperature": 0.2}


def slow_loss(embeddings: torch.Tensor, labels: list[int], temperature: float) -> float:
    """Equation 2 of arXiv:2004.11362, one term at a time."""
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    total = 0.0
    for anchor in range(len(labels)):
        others = [row for row in range(len(labels)) if row != anchor]
        weights = {row: math.exp(float(unit[anchor] @ unit[row]) / temperature) for row in others}
        positives = [row for row in others if labels[row] == labels[anchor]]
        logs = [math.log(weights[row] / sum(weights.values())) for row in positives]
        total -= sum(logs) / len(positives)
    return total / len(labels)


@pytest.mark.parametrize("crops", [1, 2])
def test_loss_is_that_of_the_paper(crops: int) -> None:
    learner = make_learner("supcon", SETTINGS | {"crops": crops})
    batch = make_batch(learner)
    (head,) = [module for module in learner.modules() if isinstance(module, ProjectionHead)]
    embeddings: list[torch.Tensor] = []
    head.register_forward_hook(lambda module, inputs, output: embeddings.append(output.detach()))
    loss = learner(batch).total.item()
    labels = batch.labels.repeat_interleave(4 * crops).tolist()
    assert loss == pytest.approx(slow_loss(embeddings[0], labels, 0.2), abs=1e-6)


def test_groups_of_one_class_are_never_negatives() -> None:
    """The floor of the loss is the log of the number of positives, whatever the groups are."""
    learner = make_learner("supcon", SETTINGS)
    batch = make_batch(learner)
    embeddings = torch.nn.functional.one_hot(batch.labels.repeat_interleave(8), 8).float() * 9
    learner.objective.contrast.head.forward = lambda features, positions: embeddings  # type: ignore
    counts = torch.bincount(batch.labels.repeat_interleave(8))
    floor = sum(math.log(int(count) - 1) * int(count) for count in counts) / int(counts.sum())
    assert learner(batch).total.item() == pytest.approx(floor, abs=0.1)


def test_simclr_over_views_is_nt_xent_of_pairs() -> None:
    """Equation 1 of arXiv:2002.05709, whose two positives are two views of one group."""
    learner = make_learner("simclr", SETTINGS | {"pairs": "views"})
    assert learner.arrangement.min_views == 2
    whole = make_batch(learner)
    pairs = torch.arange(24).view(6, 4)[:, :2].flatten()  # two views of each group
    batch = dataclasses.replace(
        whole,
        images=(whole.images[0][pairs],),
        colours=(whole.colours[0][pairs],),
        boxes=(whole.boxes[0][pairs],),
        ids=torch.arange(6),
    )
    (head,) = [module for module in learner.modules() if isinstance(module, ProjectionHead)]
    embeddings: list[torch.Tensor] = []
    head.register_forward_hook(lambda module, inputs, output: embeddings.append(output.detach()))
    loss = learner(batch).total.item()
    unit = torch.nn.functional.normalize(embeddings[0].double(), dim=1)
    total = 0.0
    for row in range(12):
        logits = [float(unit[row] @ unit[k]) / 0.2 for k in range(12) if k != row]
        positive = float(unit[row] @ unit[row ^ 1]) / 0.2
        total -= positive - math.log(sum(map(math.exp, logits)))
    assert loss == pytest.approx(total / 12, abs=1e-6)
