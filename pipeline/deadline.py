"""Ends a process whose renderer hangs: a call that never returns cannot be cancelled.

Where a worker has a process of its own, as on Ray, the driver takes the shard to another one.
"""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

FIRST_S = 3600.0
"""For the first batch of a worker, which loads, and may fetch and compile, a model."""
FIRST_TIMES = 10.0
"""The same, as a multiple of a limit that is given."""
LEAST_S, TIMES_LONGEST = 300.0, 20.0
"""For the others: so many times the longest batch that this worker has rendered, and not less."""
STATUS = 1
BACKSTOP_S = 5.0
"""Later than the thread that says why, the interpreter ends the process by itself: a call that
holds the interpreter's lock lets no thread of Python run."""


class BatchDeadline:
    """Watches the batches of one worker, one at a time.

    Args:
        limit_s: Seconds that each batch may take, and ten times as many for the first one; by what
            was measured if None.
    """

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._longest_s: float | None = None

    def limit_s(self) -> float:
        """Seconds that the next batch may take."""
        if self._limit_s is not None:
            return self._limit_s * (FIRST_TIMES if self._longest_s is None else 1)
        if self._longest_s is None:
            return FIRST_S
        return max(LEAST_S, TIMES_LONGEST * self._longest_s)

    @contextmanager
    def watching(self, what: str) -> Iterator[None]:
        """Within it, the process is ended when the deadline has passed.

        Args:
            what: Is rendered, for the line that says so. Example: `000000012_000 to 000000013_001`.
        """
        limit_s, start = self.limit_s(), time.monotonic()
        thread = threading.Timer(limit_s, _end, [what, limit_s])
        thread.daemon = True
        thread.start()
        with Path(os.devnull).open("wb") as nothing:
            faulthandler.dump_traceback_later(limit_s + BACKSTOP_S, exit=True, file=nothing)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
                thread.cancel()
        self.note(time.monotonic() - start)

    def note(self, batch_s: float) -> None:
        """Learn what a batch took."""
        self._longest_s = max(self._longest_s or 0.0, batch_s)


def _end(what: str, limit_s: float) -> None:
    log.error(
        "%s: not rendered within %.0f s, so this process ends; drop the subject, or give a larger "
        "execution.batch_deadline_s",
        what,
        limit_s,
    )
    os._exit(STATUS)
