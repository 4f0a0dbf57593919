"""The order of groups is one sequence, whoever reads it."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.order import GroupOrder, shuffled


@given(
    num_groups=st.integers(1, 200),
    seed=st.integers(0, 5),
    batch=st.sampled_from([4, 8, 12]),
    first=st.integers(0, 30),
)
@settings(max_examples=150, deadline=None)
def test_every_number_of_ranks_reads_the_same_batches(
    num_groups: int, seed: int, batch: int, first: int
) -> None:
    alone = GroupOrder(num_groups, seed=seed, batch_groups=batch)
    for step in range(first, first + 5):
        whole = alone.batch(step)
        for world in (1, 2, 4):
            parts = [alone.part(step, rank=rank, world=world) for rank in range(world)]
            assert [turn for part in parts for turn in part] == whole


@given(num_groups=st.integers(1, 200), seed=st.integers(0, 5), batch=st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_each_group_comes_once_an_epoch(num_groups: int, seed: int, batch: int) -> None:
    order = GroupOrder(num_groups, seed=seed, batch_groups=batch)
    num_steps = -(-3 * num_groups // batch)
    turns = [turn for step in range(num_steps) for turn in order.batch(step)]
    for epoch in range(3):
        entries = [turn.entry for turn in turns if turn.epoch == epoch]
        assert sorted(entries) == list(range(num_groups))


def test_epochs_and_seeds_differ() -> None:
    orders = [
        shuffled(np.arange(50), 50, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("size", [5, 16, 100])
def test_every_group_comes_at_every_place_equally_often(size: int) -> None:
    """And so does every difference of two neighbours: chi squared over 5,000 epochs, p > 1e-4."""
    epochs = 5_000
    orders = np.array([shuffled(np.arange(size), size, 0, epoch) for epoch in range(epochs)])
    limit = size - 1 + 4 * (2 * (size - 1)) ** 0.5 + 8
    for place in (0, size // 2, size - 1):
        counts = np.bincount(orders[:, place], minlength=size)
        assert ((counts - epochs / size) ** 2 / (epochs / size)).sum() < limit
    steps = np.bincount((orders[:, 1] - orders[:, 0]) % size, minlength=size)[1:]
    assert steps.sum() == epochs
    assert ((steps - epochs / (size - 1)) ** 2 / (epochs / (size - 1))).sum() < limit


def test_a_batch_has_as_many_shards_as_a_full_shuffle() -> None:
    """Of a list that is sorted by concept, 100 groups of each: chance alone puts two together."""
    size, batch = 100_000, 1376
    order = GroupOrder(size, seed=0, batch_groups=batch)
    ours = [len({turn.entry // 100 for turn in order.batch(step)}) for step in range(20)]
    rng = np.random.default_rng(0)
    full = [len(np.unique(rng.permutation(size)[:batch] // 100)) for _ in range(20)]
    assert abs(np.mean(ours) / np.mean(full) - 1) < 0.02


def test_ten_million_groups_are_never_held() -> None:
    """A permutation of so many would take 80 MB; one batch takes less than one."""
    order = GroupOrder(10_000_000, seed=0, batch_groups=1376)
    order.batch(0)
    tracemalloc.start()
    order.batch(5000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_order_is_what_it_was() -> None:
    """A change here changes every run: it needs a line in the changelog."""
    assert shuffled(np.arange(9), 9, seed=7, epoch=1).tolist() == GOLDEN


GOLDEN = [1, 7, 4, 0, 6, 8, 5, 3, 2]


def test_a_step_far_into_the_run_needs_no_history() -> None:
    order = GroupOrder(7, seed=0, batch_groups=4)
    assert order.batch(1_000_000) == GroupOrder(7, seed=0, batch_groups=4).batch(1_000_000)
    assert {turn.epoch for turn in order.batch(1_000_000)} <= {571428, 571429}


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_ranks_have_equal_parts(world: int) -> None:
    order = GroupOrder(3, seed=0, batch_groups=8)
    assert {len(order.part(2, rank=rank, world=world)) for rank in range(world)} == {8 // world}
