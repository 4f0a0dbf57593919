"""k-NN and linear probe against slow references; nothing is chosen by what is reported."""

import inspect
import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from trainer import classifiers
from trainer.classifiers import (
    PAPER_RATES,
    ProbeRecipe,
    accuracy_interval,
    choose_rate,
    enough_epochs,
    fit_probe,
    hold_out,
    rank_classes,
)
from trainer.neighbours import predict_knn

QUICK = ProbeRecipe(epochs=20, batch_size=64)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clouds(num_images: int, *, num_classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Separable features: one far centre a class."""
    labels = torch.arange(num_images) % num_classes
    centres = 6 * F.one_hot(labels, num_classes).float()
    return torch.cat([centres, noise(num_images, 4, seed=seed)], dim=1), labels


def slow_knn(queries: Tensor, bank: Tensor, labels: Tensor, classes: int, k: int) -> list[int]:
    predicted = []
    for query in queries.double():
        scored = []
        for row, image in enumerate(bank.double()):
            similarity = float(query @ image / (query.norm() * image.norm()))
            scored.append((-similarity, row))
        votes = [0.0] * classes
        for negative, row in sorted(scored)[:k]:
            votes[int(labels[row])] += math.exp(-negative / 0.07)
        predicted.append(votes.index(max(votes)))
    return predicted


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("chunk", [7, 64, 10_000])
def test_knn_equals_a_slow_loop_in_float64(k: int, chunk: int) -> None:
    bank, queries = noise(150, 6), noise(60, 6, seed=1)
    labels = torch.randint(0, 5, (150,), generator=torch.Generator().manual_seed(2))
    predicted = predict_knn(
        queries,
        bank,
        labels,
        num_classes=5,
        num_neighbours=k,
        chunk_queries=min(chunk, 33),
        chunk_bank=chunk,
    )
    assert predicted[:, 0].tolist() == slow_knn(queries, bank, labels, 5, k)


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive at once, apart from those that were before."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, list[int]] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor):
                self._count(tensor)
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return result

    def _count(self, tensor: Tensor) -> None:
        place, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        if place in self.known:
            return
        count = self.live.setdefault(place, [0, size])
        count[0] += 1

        def gone() -> None:
            count[0] -= 1
            if not count[0] and self.live.get(place) is count:
                del self.live[place]

        weakref.finalize(tensor, gone)

    known: frozenset[int] = frozenset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_memory_of_knn_does_not_grow_with_the_bank(dtype: torch.dtype) -> None:
    peaks = []
    for num_images in (4096, 32_768):
        bank, queries = noise(num_images, 32).to(dtype), noise(128, 32, seed=1).to(dtype)
        labels = torch.arange(num_images) % 5
        with PeakBytes() as count:
            count.known = frozenset(
                tensor.untyped_storage().data_ptr() for tensor in (bank, queries, labels)
            )
            predict_knn(queries, bank, labels, num_classes=5, chunk_queries=64, chunk_bank=1024)
        peaks.append(count.peak)
    assert peaks[0] == peaks[1]
    # Similarities of 64 x 1,024, at most thirty bytes for each, and a part of the bank twice.
    assert peaks[1] < 30 * 64 * 1024 + 2 * 4 * 32 * 1024 + 100_000
    assert peaks[1] < 32_768 * 32 * 4


def test_knn_of_half_precision_is_that_of_the_same_numbers() -> None:
    bank, queries, labels = noise(300, 6).half(), noise(60, 6, seed=1).half(), torch.arange(300) % 5
    narrow = predict_knn(queries, bank, labels, num_classes=5, chunk_bank=64)
    wide = predict_knn(queries.float(), bank.float(), labels, num_classes=5)
    assert torch.equal(narrow, wide)
    assert predict_knn(queries[:0], bank, labels, num_classes=5).shape == (0, 1)


def test_knn_takes_the_first_of_equally_near_ones() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(50, 1)
    query = torch.tensor([[1.0, 0.0]])
    for first, chunk in ((3, 4), (1, 1000)):
        labels = torch.full((100,), 2)
        labels[0:6] = first
        predicted = predict_knn(
            query, bank, labels, num_classes=4, num_neighbours=3, chunk_bank=chunk
        )
        assert predicted[:, 0].tolist() == [first]


def test_knn_orders_negative_similarities() -> None:
    bank = torch.tensor([[-1.0, 0.0], [-1.0, 1.0], [-1.0, 0.2]])
    predicted = predict_knn(
        torch.tensor([[1.0, 0.0]]), bank, torch.arange(3), num_classes=3, num_neighbours=1
    )
    assert predicted[:, 0].tolist() == [1]


def test_classes_are_ranked_by_score_and_then_by_number() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.9, 0.0, 0.2, 0.3]])
    assert rank_classes(scores).tolist() == [[1, 3, 2, 6, 5]]
    assert rank_classes(scores[:, :2]).tolist() == [[1, 0]]


def test_probe_is_perfect_on_separable_features() -> None:
    values, labels = clouds(400)
    test_values, test_labels = clouds(200, seed=1)
    choice = choose_rate(values, labels, torch.arange(400), num_classes=4, recipe=QUICK)
    assert choice is not None
    probe = fit_probe(values, labels, num_classes=4, rates=[choice.rate], recipe=QUICK)
    assert torch.equal(probe.predict(test_values)[:, 0], test_labels)
    assert choice.held_out_metric[choice.rate] == 1


def test_probe_is_at_chance_on_shuffled_labels() -> None:
    values, test_values = noise(2000, 16), noise(2000, 16, seed=1)
    labels, test_labels = values[:, :4].argmax(dim=1), test_values[:, :4].argmax(dim=1)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(3))
    for trained_on, low, high in ((labels, 0.9, 1.0), (labels[order], 0.15, 0.35)):
        probe = fit_probe(values, trained_on, num_classes=4, rates=[0.1], recipe=QUICK)
        accuracy = float((probe.predict(test_values)[:, 0] == test_labels).double().mean())
        assert low <= accuracy <= high


def test_heads_together_equal_each_head_alone() -> None:
    values, labels = noise(300, 16), torch.arange(300) % 3
    together = fit_probe(values, labels, num_classes=3, rates=PAPER_RATES, recipe=QUICK)
    for head, rate in enumerate(PAPER_RATES):
        alone = fit_probe(values, labels, num_classes=3, rates=[rate], recipe=QUICK)
        torch.testing.assert_close(together.weight[:, head], alone.weight[:, 0])
        torch.testing.assert_close(together.bias[head], alone.bias[0])


@pytest.mark.parametrize("batch_norm", [True, False])
def test_probe_equals_torch_sgd_and_autograd(batch_norm: bool) -> None:
    recipe = ProbeRecipe(epochs=3, batch_size=40, batch_norm=batch_norm)
    values, labels = 3 * noise(100, 8) + 1, torch.arange(100) % 5
    ours = fit_probe(values, labels, num_classes=5, rates=[0.3], recipe=recipe)

    generator = torch.Generator().manual_seed(recipe.seed)
    linear = torch.nn.Linear(8, 5)
    linear.weight.data = (0.01 * torch.randn(8, 5, generator=generator)).T.contiguous()
    linear.bias.data.zero_()
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.3 * 40 / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    if batch_norm:
        values = F.batch_norm(values, None, None, training=True, eps=1e-6)
    for _ in range(3):
        for rows in torch.randperm(100, generator=generator).tensor_split(3):
            optimizer.zero_grad()
            F.cross_entropy(linear(values[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    torch.testing.assert_close(ours.weight[:, 0].T, linear.weight.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.bias[0], linear.bias.detach(), rtol=1e-4, atol=1e-6)


def test_probe_is_seeded_and_leaves_the_global_state() -> None:
    values, labels = noise(90, 4), torch.arange(90) % 3
    before = torch.get_rng_state()

    def fit(seed: int) -> Tensor:
        recipe = ProbeRecipe(epochs=3, seed=seed)
        return fit_probe(values, labels, num_classes=3, rates=[0.1], recipe=recipe).weight

    assert torch.equal(fit(1), fit(1))
    assert not torch.equal(fit(1), fit(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_small_sets_get_more_epochs_and_imagenet_the_published_ones() -> None:
    def epochs(num_images: int, min_steps: int = 1000) -> int:
        return enough_epochs(num_images, batch_size=1024, epochs=90, min_steps=min_steps)

    assert [epochs(count) for count in (10, 1000, 1024, 1025, 11_265)] == [
        1000,
        1000,
        1000,
        500,
        90,
    ]
    assert epochs(1_281_167) == 90
    assert epochs(10, min_steps=1) == 90


def test_head_that_diverged_is_not_chosen() -> None:
    values, labels = clouds(200)
    recipe = ProbeRecipe(epochs=20, batch_norm=False)
    choice = choose_rate(
        1e4 * values, labels, torch.arange(200), num_classes=4, rates=(1e30, 1e-4), recipe=recipe
    )
    assert choice is not None
    assert choice.rate == 1e-4
    assert choice.held_out_metric[1e30] == 0


def test_choosing_is_never_given_what_is_reported() -> None:
    for function in (choose_rate, fit_probe, hold_out):
        assert not [name for name in inspect.signature(function).parameters if "test" in name]
    assert "test" not in inspect.signature(classifiers.Probe.predict).parameters


def test_held_out_part_is_a_fifth_of_each_class_and_splits_no_group() -> None:
    labels = torch.arange(10).repeat_interleave(40)
    groups = torch.arange(100).repeat_interleave(4)  # ten groups of four in each class
    held_out = hold_out(labels, groups, fraction=0.2, seed=0)
    for label in range(10):
        assert held_out[labels == label].sum() == 8
    for group in range(100):
        assert len(held_out[groups == group].unique()) == 1
    assert not torch.equal(held_out, hold_out(labels, groups, fraction=0.2, seed=1))


def test_every_class_keeps_a_group_to_learn_from() -> None:
    labels, groups = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 2, 2, 3])
    held_out = hold_out(labels, groups, fraction=0.9, seed=0)
    assert held_out[:2].sum() == 1
    assert not held_out[2:].any()


def test_no_rate_is_chosen_when_nothing_can_be_held_out() -> None:
    values, labels = noise(4, 2), torch.tensor([0, 0, 1, 1])
    assert choose_rate(values, labels, labels, num_classes=2, recipe=QUICK) is None


def test_interval_of_single_images_is_wilsons() -> None:
    correct = torch.tensor([True] * 8 + [False] * 2)
    interval = accuracy_interval(correct, torch.arange(10))
    # R: binom::binom.wilson(8, 10)
    assert interval.value == 0.8
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.4902, 0.9433)


def test_interval_never_shrinks_to_nothing() -> None:
    for groups in (torch.arange(60), torch.arange(20).repeat(3)):
        interval = accuracy_interval(torch.ones(60, dtype=torch.bool), groups)
        assert interval.value == 1
        assert interval.high == pytest.approx(1)
        assert 0.8 < interval.low < 0.95


def test_copies_of_an_image_do_not_narrow_the_interval() -> None:
    correct = torch.rand(200, generator=torch.Generator().manual_seed(0)) < 0.8
    once = accuracy_interval(correct, torch.arange(200))
    thrice = accuracy_interval(correct.repeat(3), torch.arange(200).repeat(3))
    assert math.isclose(thrice.low, once.low, abs_tol=2e-3)
    assert math.isclose(thrice.high, once.high, abs_tol=2e-3)


@pytest.mark.parametrize("alike", [0.0, 0.7, 1.0])
def test_interval_holds_the_truth_19_times_of_20(alike: float) -> None:
    rng = np.random.default_rng(5)
    groups = torch.arange(150).repeat_interleave(3)
    held = 0
    for _ in range(1000):
        shared = np.repeat(rng.random(150), 3)
        own = rng.random(450)
        draw = np.where(rng.random(450) < alike, shared, own)
        interval = accuracy_interval(torch.from_numpy(draw < 0.85), groups)
        held += interval.low <= 0.85 <= interval.high
    assert 0.93 <= held / 1000 <= 0.98


@pytest.mark.parametrize("num_images", [1, 3, 10, 77, 1000])
def test_interval_holds_the_accuracy_at_both_ends(num_images: int) -> None:
    for value in (False, True):
        correct = torch.full((num_images,), value)
        interval = accuracy_interval(correct, torch.arange(num_images))
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
