"""A job that is told to stop ends in time, and leaves the shards in flight to the next run.

Clusters send SIGTERM before they take a machine away (spot notices, Kubernetes, Slurm), and SIGKILL
some 30 seconds later. Slurm can send SIGUSR1 before a time limit. What is left is made by the next
run of the same command.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_S = 25.0
"""After a signal the job ends within this time, whatever its workers do."""
STATUS = 128 + signal.SIGTERM
"""Exit status, as a shell reports of a process that SIGTERM ended."""


class JobStopped(BaseException):
    """A signal asks the job to end. Not an Exception, so that no library takes it for an error."""


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Within it, SIGTERM and SIGUSR1 raise JobStopped in the main thread, once.

    A second signal ends the process at once, and so does the end of the grace.
    """
    watchdog = threading.Timer(GRACE_S, os._exit, [STATUS])
    watchdog.daemon = True

    def stop(number: int, _: FrameType | None) -> None:
        if watchdog.is_alive():
            os._exit(STATUS)
        watchdog.start()
        raise JobStopped(signal.Signals(number).name)

    kinds = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.signal(kind, stop) for kind in kinds]
    try:
        yield
    finally:
        watchdog.cancel()
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
