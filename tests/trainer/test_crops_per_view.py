"""Several crops of a view: the losses beside slow loops in float64."""

import math

import pytest
import torch
from torch import Tensor

from trainer.models.head import ProjectionHead
from trainer.objectives import objective_class
from trainer.testing.objectives import NUM_GROUPS, NUM_VIEWS, make_batch, make_learner

HEAD = {"head_hidden": 12, "head_out": 8}
TEXT = {"text": {"context_length": 12, "width": 16, "heads": 2, "layers": 1, "embed_dim": 8}}


def cross_entropy(logits: dict[int, float], positives: list[int]) -> float:
    """Between softmax and the uniform distribution over some of the candidates."""
    total = sum(math.exp(logit) for logit in logits.values())
    logs = [math.log(math.exp(logits[candidate]) / total) for candidate in positives]
    return -sum(logs) / len(positives)


def image_loss(embeddings: Tensor, ids: list[int], temperature: float) -> float:
    """Section 3.1 of arXiv:2306.00984, one crop at a time."""
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    terms = []
    for anchor, group in enumerate(ids):
        others = [row for row in range(len(ids)) if row != anchor]
        logits = {row: float(unit[anchor] @ unit[row]) / temperature for row in others}
        terms.append(cross_entropy(logits, [row for row in others if ids[row] == group]))
    return sum(terms) / len(terms)


def matching_loss(
    anchors: Tensor, candidates: Tensor, anchor_ids: list[int], ids: list[int], scale: float
) -> float:
    """Cross-entropy of anchors of one kind over candidates of another, one anchor at a time."""
    terms = []
    for anchor, group in zip(anchors.double(), anchor_ids, strict=True):
        logits = {row: scale * float(anchor @ unit) for row, unit in enumerate(candidates.double())}
        terms.append(cross_entropy(logits, [row for row in logits if ids[row] == group]))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("crops", [1, 3])
def test_crops_of_a_group_are_positives_of_each_other(crops: int) -> None:
    learner = make_learner("stablerep", HEAD | {"crops": crops})
    batch = make_batch(learner)
    ids = batch.ids.repeat_interleave(NUM_VIEWS * crops).tolist()
    (head,) = [module for module in learner.modules() if isinstance(module, ProjectionHead)]
    embeddings: list[Tensor] = []
    head.register_forward_hook(lambda module, inputs, output: embeddings.append(output.detach()))
    loss = learner(batch).total.item()
    assert len(embeddings[0]) == NUM_GROUPS * NUM_VIEWS * crops
    assert loss == pytest.approx(image_loss(embeddings[0], ids, 0.1), abs=1e-5)


@pytest.mark.parametrize("name", ["clip", "stablerep-plus"])
def test_crops_of_a_group_belong_to_its_caption(name: str) -> None:
    settings = TEXT | {"crops": 2} | (HEAD if name == "stablerep-plus" else {})
    learner = make_learner(name, settings)
    batch = make_batch(learner)
    texts = batch.ids.tolist()
    ids = batch.ids.repeat_interleave(NUM_VIEWS * 2).tolist()
    features: list[Tensor] = []
    learner.encoder.register_forward_hook(
        lambda module, inputs, output: features.append(output.detach())
    )
    terms = learner(batch)
    text = learner.objective.image_text
    with torch.no_grad():
        images, words = text.embed_features(features[0]), text.embed_texts(batch.captions)
    scale = 1 / 0.07
    expected = (
        matching_loss(images, words, ids, texts, scale),
        matching_loss(words, images, texts, ids, scale),
    )
    parts = terms.parts["image_to_text"].item(), terms.parts["text_to_image"].item()
    assert parts == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["stablerep", "stablerep-plus", "clip"])
def test_one_crop_is_the_default(name: str) -> None:
    objective = objective_class(name)
    assert objective.arrangement(objective.Config()).crops_per_view == 1
    four = objective.Config(crops=4)
    assert objective.arrangement(four).crops_per_view == 4
