"""The order of groups: one endless sequence, a pure function of number, seed and step.

Ranks, loader workers and resumed runs read parts of this sequence; none of them changes it. Why it
has no gaps is in docs/adr/0011-epochs-without-a-gap.md. Any part is computed by itself, because a
permutation of ten million groups would take 80 MB in every loader worker.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.draws import generator

ROUNDS = 8
_UINT64 = np.uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One group's turn in the endless sequence."""

    epoch: int
    entry: int
    """Number of the group, or of the view where each is a group of its own."""
    instead_of: int = -1
    """Number of the one that this replaces because it could not be read; -1 for none."""

    def numbers(self) -> tuple[int, ...]:
        """What the draws of this turn are made from, beside the id of its group."""
        return (self.epoch,) if self.instead_of < 0 else (self.epoch, self.instead_of)


class GroupOrder:
    """Epoch after epoch without a gap: a step may end one epoch and begin the next.

    Each group comes once an epoch, no tail is dropped, and all ranks take equally many steps.
    """

    def __init__(self, num_groups: int, *, seed: int, batch_groups: int) -> None:
        self._num_groups = num_groups
        self._seed = seed
        self.batch_groups = batch_groups

    def batch(self, step: int) -> list[Turn]:
        """The turns of a step over all ranks."""
        return self.part(step, rank=0, world=1)

    def part(self, step: int, *, rank: int, world: int) -> list[Turn]:
        """One rank's turns of a step; `world` divides the batch."""
        count = self.batch_groups // world
        first = step * self.batch_groups + rank * count
        turns: list[Turn] = []
        while len(turns) < count:
            epoch, start = divmod(first + len(turns), self._num_groups)
            stop = min(start + count - len(turns), self._num_groups)
            entries = shuffled(np.arange(start, stop), self._num_groups, self._seed, epoch)
            turns += [Turn(epoch=epoch, entry=entry) for entry in entries.tolist()]
        return turns


def shuffled(positions: NDArray[np.int64], size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """What a random permutation of 0 to size - 1 has at some positions.

    A Feistel network permutes the numbers of an even number of bits; one that it takes beyond the
    size is sent through it again until it falls inside (Black and Rogaway, Ciphers with Arbitrary
    Finite Domains, 2002).

    Args:
        positions: 0 to size - 1, [n].
        seed: Other seeds and other epochs have other permutations.

    Returns:
        0 to size - 1, [n].
    """
    half_bits = _UINT64(max(1, -(-(size - 1).bit_length() // 2)))
    mask = (_UINT64(1) << half_bits) - _UINT64(1)
    keys = generator("order", seed, epoch).integers(0, 2**64, ROUNDS, dtype=np.uint64)
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), dtype=np.bool_)
    while outside.any():
        left, right = values[outside] >> half_bits, values[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        values[outside] = left << half_bits | right
        outside = values >= size
    return values.astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of a result depends on all bits of its value (the finalizer of SplitMix64)."""
    values = (values ^ values >> _UINT64(30)) * _UINT64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> _UINT64(27)) * _UINT64(0x94D049BB133111EB)
    return values ^ values >> _UINT64(31)
