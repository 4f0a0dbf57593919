"""When each shard is tried: a pure state machine that every executor obeys.

A shard that fails goes to the end of the queue. It has the last of its MAX_ATTEMPTS tries alone, on
a fresh worker with nothing else in flight, so that it is not given up because of what another shard
did to the worker (docs/adr/0005).
"""

import statistics
from array import array
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

MAX_ATTEMPTS = 3
SLOW_TIMES, SLOW_S = 2.0, 30.0
"""An attempt is slow once it takes so many times the median of the others, and at least so many
seconds: its node may be ill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to make a shard."""

    shard: int
    errors: tuple[str, ...] = ()
    """The error of each attempt before this one, in their order."""
    is_suspect: bool = False
    """Whether an earlier process may have died of this shard."""

    @property
    def number(self) -> int:
        """1 for the first."""
        return len(self.errors) + 1

    @property
    def is_last(self) -> bool:
        """Whether no other attempt follows."""
        return self.number == MAX_ATTEMPTS

    @property
    def is_alone(self) -> bool:
        """Whether it is made when nothing else is, by a renderer in a process of its own."""
        return self.is_suspect or self.is_last


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFailure:
    """A shard that was given up."""

    shard: int
    errors: tuple[str, ...]
    """The error of each of its MAX_ATTEMPTS attempts."""


class WorkQueue:
    """Attempts that wait to be made; those that are being made are known to the executor."""

    def __init__(self, shards: Iterable[int], *, suspects: Collection[int] = ()) -> None:
        """
        Args:
            suspects: Those that an earlier process may have died of. Each try of them is alone.
        """
        # Numbers alone, and the first as the last: there may be a million.
        self._untried = array("l", (shard for shard in shards if shard not in suspects))
        self._untried.reverse()
        self._waiting: deque[Attempt] = deque()
        """Attempts that are not the first."""
        died = ("an earlier process died while it made this shard",)
        self._alone = deque(
            Attempt(shard=shard, errors=died, is_suspect=True) for shard in sorted(suspects)
        )

    def __len__(self) -> int:
        """Attempts that are waiting now."""
        return self.num_shared + len(self._alone)

    @property
    def num_shared(self) -> int:
        """Attempts that may share a worker."""
        return len(self._untried) + len(self._waiting)

    def take(self) -> Attempt | None:
        """The next attempt that may share a worker, or None."""
        if self._untried:
            return Attempt(shard=self._untried.pop())
        return self._waiting.popleft() if self._waiting else None

    def take_alone(self) -> Attempt | None:
        """The next attempt that is made alone, or None; only where nothing else is made."""
        return self._alone.popleft() if self._alone else None

    def failed(self, attempt: Attempt, error: str) -> ShardFailure | None:
        """Note that an attempt failed.

        Returns:
            None if the shard is queued again, its failure if that was its last attempt.
        """
        errors = (*attempt.errors, error)
        if attempt.is_last:
            return ShardFailure(shard=attempt.shard, errors=errors)
        again = replace(attempt, errors=errors)
        (self._alone if again.is_alone else self._waiting).append(again)
        return None


def slow_attempts(
    running: Sequence[tuple[Attempt, float]], durations: Collection[float]
) -> list[Attempt]:
    """Attempts that are worth a second try beside the first, the slowest first.

    A last try is made alone, and a shard that is being made twice already is enough.

    Args:
        running: Each with the seconds that it has taken so far.
        durations: Seconds of attempts that have succeeded; without any nothing is slow.
    """
    if not durations:
        return []
    limit_s = max(SLOW_S, SLOW_TIMES * statistics.median(durations))
    times = Counter(attempt.shard for attempt, _ in running)
    return [
        attempt
        for attempt, seconds in sorted(running, key=lambda pair: -pair[1])
        if seconds > limit_s and times[attempt.shard] == 1 and not attempt.is_alone
    ]
