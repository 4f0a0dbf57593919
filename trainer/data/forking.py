"""What loader processes, which are forks, cannot take over from the process that trains."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Opened = TypeVar("Opened")


class PerProcess(Generic[Opened]):
    """Opens something once in each process: clients of object stores do not survive a fork."""

    def __init__(self, open_it: Callable[[], Opened]) -> None:
        self._open = open_it
        self._current = os.getpid(), open_it()

    def get(self) -> Opened:
        """What this process has opened. Several threads may ask at once."""
        process, opened = self._current
        if process != os.getpid():
            # Both are set at once, so that no thread sees the client of the parent as its own.
            # Threads that ask at the same time may open it twice, which harms nothing.
            opened = self._open()
            self._current = os.getpid(), opened
        return opened
