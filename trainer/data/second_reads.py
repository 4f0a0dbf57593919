"""A read that takes much longer than the others is asked for twice, and the first answer counts.

Object stores answer most reads soon and a few of them after seconds, and a step waits for its
slowest read. Source: Dean and Barroso, The Tail at Scale, CACM 2013, on hedged requests.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, Queue

NUM_REMEMBERED = 200
"""Reads whose times say what is usual."""
FEWEST = 20
"""Before so many reads nothing is known to be slow."""
SLOWER_THAN_USUAL = 2.0
"""A read is asked for again after so many times what 95 % of the reads take at most."""
MIN_WAIT_S = 0.05


class SecondReads:
    """Asks for slow reads twice; several threads may read at once."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=NUM_REMEMBERED)
        self.num_second = 0
        """Reads that were asked for again."""

    def read(self, read: Callable[[], bytes]) -> bytes:
        """What `read` gives, which may be called twice, each time in a thread of its own.

        Raises:
            Exception: What `read` raised, both times if it was called twice.
        """
        answers: Queue[bytes | Exception] = Queue()
        start = time.monotonic()
        _ask(read, answers)
        try:
            answer = answers.get(timeout=self._patience_s())
        except Empty:
            self.num_second += 1
            _ask(read, answers)
            answer = answers.get()
            if isinstance(answer, Exception):
                answer = answers.get()
        if isinstance(answer, Exception):
            raise answer
        self._seconds.append(time.monotonic() - start)
        return answer

    def _patience_s(self) -> float | None:
        """How long the first read may take; None while too few are known."""
        known = sorted(self._seconds.copy())  # other threads go on adding to it
        if len(known) < FEWEST:
            return None
        return max(SLOWER_THAN_USUAL * known[int(0.95 * len(known))], MIN_WAIT_S)


def _ask(read: Callable[[], bytes], answers: "Queue[bytes | Exception]") -> None:
    def ask() -> None:
        try:
            answers.put(read())
        except Exception as exc:
            answers.put(exc)

    # A daemon, because the slower of two reads must not keep a process from ending.
    threading.Thread(target=ask, daemon=True, name="second read").start()
