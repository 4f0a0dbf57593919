"""A job that is told to stop ends in time, and leaves the shards in flight to the next run.

Clusters send SIGTERM before they take a machine away (spot notices, Kubernetes, Slurm), and SIGKILL
some 30 seconds later. Slurm can send SIGUSR1 before a time limit. A user presses Ctrl-C, which is
SIGINT, and waits for the prompt. What is left is made by the next run of the same command.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE_S = 25.0
"""After SIGTERM or SIGUSR1 the job ends within this time, whatever its workers do."""
INTERRUPT_GRACE_S = 5.0
"""The same after Ctrl-C: enough to commit a small shard; a batch that takes longer is dropped."""
KINDS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_STOPPING = b"\nstopping; what is being rendered is dropped. Ctrl-C again ends at once\n"


class JobStopped(BaseException):
    """A signal asks the job to end. Not an Exception, so that no library takes it for an error."""

    def __init__(self, kind: signal.Signals) -> None:
        super().__init__(kind)
        self._kind = kind

    def __str__(self) -> str:
        return "Ctrl-C" if self._kind == signal.SIGINT else self._kind.name

    @property
    def status(self) -> int:
        """Exit status, as shells report it: 130 after Ctrl-C. Schedulers know 143, whichever of
        their signals they sent."""
        return 128 + (signal.SIGINT if self._kind == signal.SIGINT else signal.SIGTERM)

    @property
    def grace_s(self) -> float:
        """Seconds in which the job ends."""
        return INTERRUPT_GRACE_S if self._kind == signal.SIGINT else GRACE_S


@contextmanager
def stopping_on_signals(last_words: Callable[[JobStopped], None]) -> Iterator[None]:
    """Within it, a signal of KINDS raises JobStopped in the main thread, once.

    A second signal ends the process at once, and so does the end of the grace. An error that comes
    after a signal is taken for its work: libraries replace what is raised while they run.

    Args:
        last_words: Called before the process is ended because the grace is over: what raised
            JobStopped cannot be caught then.
    """
    watchdogs: list[threading.Timer] = []
    raised: list[JobStopped] = []

    def end(stopped: JobStopped) -> None:
        with suppress(Exception):  # whatever happens, the process must end
            if sys.stderr.isatty():
                os.write(2, b"\n")  # the line of progress has no end yet
            last_words(stopped)
        os._exit(stopped.status)

    def stop(number: int, _: FrameType | None) -> None:
        stopped = JobStopped(signal.Signals(number))
        if watchdogs:
            os._exit(stopped.status)
        watchdogs.append(threading.Timer(stopped.grace_s, end, [stopped]))
        watchdogs[0].daemon = True
        watchdogs[0].start()
        if number == signal.SIGINT:
            with suppress(OSError):  # no `print`: the signal may have come in the middle of one
                os.write(2, _STOPPING)
        raised.append(stopped)
        raise stopped

    before = [signal.signal(kind, stop) for kind in KINDS]
    try:
        yield
    except Exception as exc:
        if raised:
            raise raised[0] from exc
        raise
    finally:
        for watchdog in watchdogs:
            watchdog.cancel()
        for kind, handler in zip(KINDS, before, strict=True):
            signal.signal(kind, handler)
