"""Heads that learn side by side, beside single heads in loops of their own."""

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.augmented_probe import AugmentedRecipe, LearningHeads
from trainer.data.augment import AugmentConfig
from trainer.evaluations.linear_augmented import LinearAugmented
from trainer.testing.evaluations import CLASSES, ENCODER, make_features

NUM_IMAGES, NUM_DIMS, NUM_CLASSES = 50, 6, 3
RATES = (0.5, 4.0)


def epochs(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 + torch.randn(NUM_IMAGES, NUM_DIMS, generator=generator) for _ in range(count)]


LABELS = torch.arange(NUM_IMAGES) % NUM_CLASSES


def learned(recipe: AugmentedRecipe, rates: tuple[float, ...] = RATES) -> LearningHeads:
    heads = LearningHeads(
        num_dims=NUM_DIMS,
        num_classes=NUM_CLASSES,
        num_images=NUM_IMAGES,
        rates=rates,
        recipe=recipe,
        device="cpu",
    )
    for values in epochs(recipe.epochs):
        heads.learn(values, LABELS)
    return heads


def alone(recipe: AugmentedRecipe, rate: float) -> nn.Module:
    """A head as the published programs train it, in their own words: a module and a loop."""
    generator = torch.Generator().manual_seed(recipe.seed)
    linear = nn.Linear(NUM_DIMS, NUM_CLASSES)
    linear.weight.data = 0.01 * torch.randn(NUM_DIMS, NUM_CLASSES, generator=generator).T
    linear.bias.data.zero_()
    norm = nn.BatchNorm1d(NUM_DIMS, affine=False, eps=1e-6)
    model = nn.Sequential(norm, linear) if recipe.batch_norm else nn.Sequential(linear)
    num_batches = math.ceil(NUM_IMAGES / recipe.batch_size)
    total, warmup = recipe.epochs * num_batches, recipe.warmup_epochs * num_batches
    moments = {parameter: torch.zeros_like(parameter) for parameter in linear.parameters()}
    step = 0
    for values in epochs(recipe.epochs):
        order = torch.randperm(NUM_IMAGES, generator=generator)
        for rows in order.tensor_split(num_batches):
            if step < warmup:
                factor = step / warmup
            else:
                factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
            model.zero_grad()
            F.cross_entropy(model(values[rows]), LABELS[rows]).backward()
            with torch.no_grad():
                for parameter, moment in moments.items():
                    slope = parameter.grad
                    assert slope is not None
                    if recipe.optimizer == "lars" and parameter.ndim > 1:
                        slope = slope * 0.001 * parameter.norm() / slope.norm()
                    moment.mul_(0.9).add_(slope)
                    parameter -= rate * recipe.batch_size / 256 * factor * moment
            step += 1
    return model.eval()


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_each_head_learns_as_if_it_were_alone(
    optimizer: Literal["sgd", "lars"], batch_norm: bool
) -> None:
    recipe = AugmentedRecipe(
        epochs=6, warmup_epochs=2, batch_size=10, optimizer=optimizer, batch_norm=batch_norm, seed=3
    )
    heads = learned(recipe)
    values = epochs(1)[0]
    for head, rate in enumerate(RATES):
        expected = alone(recipe, rate)(values).detach()
        torch.testing.assert_close(heads.logits(values)[:, head], expected, rtol=1e-4, atol=1e-5)


def test_a_head_that_diverges_costs_no_other() -> None:
    recipe = AugmentedRecipe(epochs=8, batch_size=10, batch_norm=False)
    beside = learned(recipe, (0.5, 1e30)).logits(epochs(1)[0])
    assert beside[:, 1].abs().max() > 1e20
    by_itself = learned(recipe, (0.5,)).logits(epochs(1)[0])
    torch.testing.assert_close(beside[:, 0], by_itself[:, 0], rtol=1e-4, atol=1e-5)


def test_no_batch_has_a_single_image() -> None:
    recipe = AugmentedRecipe(epochs=1, batch_size=49)
    assert learned(recipe).logits(epochs(1)[0]).isfinite().all()
    heads = LearningHeads(
        num_dims=2, num_classes=2, num_images=3, rates=(1.0,), recipe=recipe, device="cpu"
    )
    heads.learn(torch.tensor([[0.0, 1], [2, 3], [5, 1]]), torch.tensor([0, 1, 1]))
    assert heads.logits(torch.ones(1, 2)).isfinite().all()


def test_every_epoch_goes_once_through_the_encoder_and_keeps_the_held_out_out() -> None:
    train = make_features(200, signal=3, seed=0)
    asked: list[tuple[tuple[float, float], int, int]] = []

    def crops(augment: AugmentConfig, *, seed: int, epoch: int) -> Tensor:
        asked.append((augment.crop_scale, seed, epoch))
        return train.values

    config = LinearAugmented.Config(epochs=3, rates=(0.1, 0.5), crop_scale=(0.2, 1), seed=7)
    prediction = LinearAugmented(config).predict(
        ENCODER, replace(train, crops=crops), train.values, CLASSES
    )
    assert asked == [((0.2, 1), 7, epoch) for epoch in range(3)]
    assert prediction.details["rate"] in (0.1, 0.5)
    assert prediction.details["num_held_out"] == pytest.approx(40, abs=4)
    assert set(prediction.details["held_out_metric"]) == {"0.1", "0.5"}


def test_single_rate_is_used_without_a_choice() -> None:
    train = make_features(40, signal=12, seed=0)
    config = LinearAugmented.Config(epochs=2, rates=(0.1,))
    prediction = LinearAugmented(config).predict(ENCODER, train, train.values, CLASSES)
    assert prediction.details == {"rate": 0.1}


def test_defaults_are_those_of_the_published_program() -> None:
    config = LinearAugmented.Config()
    assert config.rates == (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
    assert (config.epochs, config.batch_size, config.optimizer) == (90, 1024, "sgd")
    assert (config.crop_scale, config.flip_prob) == ((0.08, 1.0), 0.5)
    assert config.crop_ratio == (3 / 4, 4 / 3)
