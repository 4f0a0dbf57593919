"""The order of groups: one endless sequence, a pure function of set, seed and position.

Rank, workers and resuming only decide who reads which part of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.draws import generator

BLOCK_SHARDS = 16
"""Shards whose groups are mixed with each other; facts of the loader's memory and its mixing."""


def epoch_order(
    shards: NDArray[np.int32], *, seed: int, epoch: int, block_shards: int = BLOCK_SHARDS
) -> NDArray[np.int64]:
    """A permutation of the groups: shards in random order, groups mixed within blocks of shards.

    Args:
        shards: Shard of each group.
    """
    rng = generator("order", seed, epoch)
    numbers, shard_of = np.unique(shards, return_inverse=True)
    block_of = rng.permutation(len(numbers)) // block_shards
    return np.lexsort((rng.random(len(shards)), block_of[shard_of]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One group in the endless sequence."""

    epoch: int
    entry: int
    """Row of the group table."""
    instead_of: int = -1
    """Row of the group that could not be read and is replaced by this one."""

    def seeds(self) -> tuple[int, ...]:
        """What tells the draws of this turn from those of any other."""
        return (self.epoch,) if self.instead_of < 0 else (self.epoch, self.instead_of)


class GroupOrder:
    """Epoch after epoch without a gap: a step may end one epoch and begin the next.

    So each group comes once an epoch, no tail is dropped, and all ranks take equal steps.
    """

    def __init__(self, shards: NDArray[np.int32], *, seed: int, batch_groups: int) -> None:
        self._shards = shards
        self._seed = seed
        self.batch_groups = batch_groups
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int) -> list[Place]:
        """The groups of a step over all ranks."""
        return self.part(step, rank=0, world=1)

    def part(self, step: int, *, rank: int, world: int) -> list[Place]:
        """One rank's groups of a step; `world` divides the batch."""
        count = self.batch_groups // world
        first = step * self.batch_groups + rank * count
        return [self._place(position) for position in range(first, first + count)]

    def _place(self, position: int) -> Place:
        epoch, index = divmod(position, len(self._shards))
        if epoch not in self._epochs:
            if len(self._epochs) > 1:  # a step touches two epochs at most
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = epoch_order(self._shards, seed=self._seed, epoch=epoch)
        return Place(epoch=epoch, entry=int(self._epochs[epoch][index]))
