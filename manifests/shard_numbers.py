"""Some shards of a set: a byte for each that there can be, of which there may be a million."""

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence


class ShardNumbers(Collection[int]):
    """Numbers of shards, ascending.

    Args:
        num_shards: Of the whole set: the numbers are from 0 to one less.
    """

    def __init__(self, num_shards: int, numbers: Iterable[int] = ()) -> None:
        self._flags = bytearray(num_shards)
        for number in numbers:
            self._flags[number] = 1

    def __len__(self) -> int:
        return self._flags.count(1)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self._flags[number : number + 1] == b"\1"

    def __iter__(self) -> Iterator[int]:
        number = self._flags.find(1)
        while number >= 0:
            yield number
            number = self._flags.find(1, number + 1)

    def discard(self, number: int) -> None:
        """Take a number out."""
        self._flags[number] = 0

    def missing(self) -> Sequence[int]:
        """The other shards of the set, ascending."""
        return array("l", (number for number, flag in enumerate(self._flags) if not flag))
