"""How fast a run is, and how long it waits for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Rates:
    """Counts crops and waiting time since the rates were last read."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._start, self._waited, self._crops = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time inside is spent waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time inside is no time of the training."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def count(self, crops: int) -> None:
        """These crops, over all ranks, were learned from."""
        self._crops += crops

    def read(self) -> dict[str, float]:
        """Start counting anew.

        Returns:
            `images_per_s`: crops a second; `data_wait`: the part of the time, from 0 to 1, that was
            spent waiting.
        """
        elapsed = time.perf_counter() - self._start
        rates = {"images_per_s": self._crops / elapsed, "data_wait": self._waited / elapsed}
        self._reset()
        return rates
