"""The order of groups is one sequence, whoever reads it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.order import GroupOrder, epoch_order


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    seed=st.integers(0, 5),
    batch=st.sampled_from([4, 8, 12]),
    first=st.integers(0, 30),
)
@settings(max_examples=150, deadline=None)
def test_every_number_of_ranks_reads_the_same_batches(
    sizes: list[int], seed: int, batch: int, first: int
) -> None:
    shards = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    alone = GroupOrder(shards, seed=seed, batch_groups=batch)
    steps = range(first, first + 5)
    whole = [alone.batch(step) for step in steps]
    for world in (1, 2, 4):
        ranks = [GroupOrder(shards, seed=seed, batch_groups=batch) for _ in range(world)]
        parts = [
            [turn for r in range(world) for turn in ranks[r].part(step, rank=r, world=world)]
            for step in steps
        ]
        assert parts == whole


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    seed=st.integers(0, 5),
    batch=st.integers(1, 12),
)
@settings(max_examples=150, deadline=None)
def test_each_group_comes_once_an_epoch(sizes: list[int], seed: int, batch: int) -> None:
    shards = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    order = GroupOrder(shards, seed=seed, batch_groups=batch)
    num_steps = -(-3 * len(shards) // batch)
    turns = [turn for step in range(num_steps) for turn in order.batch(step)]
    for epoch in range(3):
        entries = [turn.entry for turn in turns if turn.epoch == epoch]
        assert sorted(entries) == list(range(len(shards)))


def test_epochs_and_seeds_differ() -> None:
    shards = np.zeros(50, dtype=np.int32)
    orders = [
        epoch_order(shards, seed=seed, epoch=epoch).tolist() for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_groups_are_mixed_within_blocks_of_shards_only() -> None:
    """So a reader needs the manifests of two blocks at most at any time."""
    shards = np.repeat(np.arange(12, dtype=np.int32), 10)
    order = epoch_order(shards, seed=0, epoch=0, block_shards=4)
    blocks = [set(shards[order[start : start + 40]].tolist()) for start in range(0, 120, 40)]
    assert [len(block) for block in blocks] == [4, 4, 4]
    assert set.union(*blocks) == set(range(12))
    assert shards[order[:40]].tolist() != sorted(shards[order[:40]].tolist())


def test_order_is_what_it_was() -> None:
    """A change here changes every run: it needs a line in the changelog."""
    shards = np.repeat(np.arange(3, dtype=np.int32), 3)
    assert epoch_order(shards, seed=7, epoch=1, block_shards=2).tolist() == GOLDEN


GOLDEN = [3, 5, 0, 1, 4, 2, 6, 8, 7]


def test_a_step_far_into_the_run_needs_no_history() -> None:
    shards = np.zeros(7, dtype=np.int32)
    order = GroupOrder(shards, seed=0, batch_groups=4)
    assert order.batch(1_000_000) == GroupOrder(shards, seed=0, batch_groups=4).batch(1_000_000)
    assert {turn.epoch for turn in order.batch(1_000_000)} <= {571428, 571429}


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_ranks_have_equal_parts(world: int) -> None:
    order = GroupOrder(np.zeros(3, dtype=np.int32), seed=0, batch_groups=8)
    assert {len(order.part(2, rank=rank, world=world)) for rank in range(world)} == {8 // world}
