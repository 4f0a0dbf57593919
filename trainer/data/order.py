"""The order of groups: one endless sequence, a pure function of the index, the seed and the step.

Ranks, loader workers and resumed runs read parts of this sequence; none of them changes it. Why it
has no gaps is in docs/adr/0011-epochs-without-a-gap.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.draws import generator

BLOCK_SHARDS = 16
"""Shards whose groups are mixed with each other. More shards mix better and take more memory."""


def epoch_order(
    shards: NDArray[np.int32], *, seed: int, epoch: int, block_shards: int = BLOCK_SHARDS
) -> NDArray[np.int64]:
    """A permutation of the groups: shards in random order, groups mixed within blocks of shards.

    Args:
        shards: Shard of each group, [groups].
        seed: Other seeds give other orders.
        epoch: Counted from 0; other epochs give other orders.
        block_shards: Shards that are mixed with each other.

    Returns:
        Rows of the group table, [groups].
    """
    rng = generator("order", seed, epoch)
    numbers, shard_of = np.unique(shards, return_inverse=True)
    block_of = rng.permutation(len(numbers)) // block_shards
    # lexsort sorts by its last key first: by block, and at random within a block.
    return np.lexsort((rng.random(len(shards)), block_of[shard_of]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One group's turn in the endless sequence."""

    epoch: int
    entry: int
    """Row of the group table."""
    instead_of: int = -1
    """Row of the group that this one replaces because it could not be read; -1 for none."""

    def numbers(self) -> tuple[int, ...]:
        """What the draws of this turn are made from, beside the id of its group."""
        return (self.epoch,) if self.instead_of < 0 else (self.epoch, self.instead_of)


class GroupOrder:
    """Epoch after epoch without a gap: a step may end one epoch and begin the next.

    Each group comes once an epoch, no tail is dropped, and all ranks take equally many steps.
    """

    def __init__(self, shards: NDArray[np.int32], *, seed: int, batch_groups: int) -> None:
        self._shards = shards
        self._seed = seed
        self.batch_groups = batch_groups
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int) -> list[Turn]:
        """The turns of a step over all ranks."""
        return self.part(step, rank=0, world=1)

    def part(self, step: int, *, rank: int, world: int) -> list[Turn]:
        """One rank's turns of a step; `world` divides the batch."""
        count = self.batch_groups // world
        first = step * self.batch_groups + rank * count
        return [self._turn(position) for position in range(first, first + count)]

    def _turn(self, position: int) -> Turn:
        epoch, index = divmod(position, len(self._shards))
        if epoch not in self._epochs:
            if len(self._epochs) > 1:  # a step touches two epochs at most
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = epoch_order(self._shards, seed=self._seed, epoch=epoch)
        return Turn(epoch=epoch, entry=int(self._epochs[epoch][index]))
