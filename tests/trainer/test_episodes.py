"""Few-shot episodes: drawn from train alone, scored on the images of their classes."""

import inspect
import math

import pytest
import torch

from trainer.episodes import draw_episodes, episode_accuracy, episode_interval

LABELS = torch.arange(8).repeat_interleave(12)
GROUPS = torch.arange(32).repeat_interleave(3)  # four groups of three images in each class


def test_episodes_have_their_classes_and_different_groups() -> None:
    before = torch.get_rng_state()
    drawn = draw_episodes(LABELS, GROUPS, ways=3, shots=4, episodes=50, seed=1)
    assert drawn is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn.num_eligible == 8
    assert drawn.support.shape == (50, 3, 4)
    for classes, support in zip(drawn.classes, drawn.support, strict=True):
        assert len(classes.unique()) == 3
        assert torch.equal(LABELS[support], classes[:, None].expand(-1, 4))
        assert all(len(GROUPS[rows].unique()) == 4 for rows in support)
    assert len(drawn.classes.unique()) == 8
    assert len(drawn.support.unique()) > 90
    again = draw_episodes(LABELS, GROUPS, ways=3, shots=4, episodes=50, seed=1)
    other = draw_episodes(LABELS, GROUPS, ways=3, shots=4, episodes=50, seed=2)
    assert again is not None
    assert other is not None
    assert torch.equal(drawn.support, again.support)
    assert not torch.equal(drawn.support, other.support)


def test_classes_of_few_groups_are_not_drawn() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    groups = torch.tensor([0, 1, 2, 3, 4, 4])
    drawn = draw_episodes(labels, groups, ways=2, shots=2, episodes=5, seed=0)
    assert drawn is not None
    assert (drawn.num_eligible, set(drawn.classes.flatten().tolist())) == (2, {0, 1})
    assert draw_episodes(labels, groups, ways=3, shots=2, episodes=5, seed=0) is None


def test_drawing_is_never_given_what_is_reported() -> None:
    assert not [name for name in inspect.signature(draw_episodes).parameters if "test" in name]


def test_each_class_of_an_episode_counts_alike_and_others_do_not() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    predicted = torch.tensor([[0, 1], [0, 1], [0, 1], [1, 1], [0, 1], [0, 2]])
    classes = torch.tensor([[0, 1], [3, 2]])
    # Episode 0: three of four images of class 0, none of class 1. Episode 1: class 2 alone.
    accuracy = episode_accuracy(predicted, classes, labels)
    assert accuracy.tolist() == [(0.75 + 0) / 2, 1.0]
    assert episode_accuracy(predicted, torch.tensor([[3, 4], [3, 2]]), labels)[0].isnan()


def test_interval_is_the_mean_with_1_96_standard_errors() -> None:
    generator = torch.Generator().manual_seed(0)
    accuracy = (0.7 + 0.08 * torch.randn(600, generator=generator)).double()
    interval = episode_interval(accuracy)
    half = 1.96 * float(accuracy.std()) / math.sqrt(600)
    assert interval.value == pytest.approx(float(accuracy.mean()))
    assert interval.low == pytest.approx(interval.value - half, abs=1e-4)
    assert interval.high == pytest.approx(interval.value + half, abs=1e-4)
    perfect = episode_interval(torch.ones(600).double())
    assert 0.99 < perfect.low < perfect.high == 1
