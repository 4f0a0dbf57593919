"""A renderer in a process of its own, so that a request that kills it costs nothing else.

The last attempt of a shard renders so (`pipeline.retrying`): a crash in a library, a batch beyond
its deadline or a process that the system ends for its memory are errors of requests then, as those
that a renderer raises.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from manifests.foundation.messages import one_line
from pipeline.deadline import BatchDeadline
from pipeline.errors import RendererError, RenderError, ShardError
from pipeline.job import Job
from pipeline.views import RenderedView, ViewRequest

START_S = 600.0
"""For a process to import its libraries and open the renderer; weights are loaded later."""
ATTEMPTS = 2
"""Times that a single request is rendered before its process is taken to have died because of it,
and not because of what else the machine does."""


class RendererProcess:
    """Renders in a process that is started when it is needed, and started again when it died."""

    def __init__(self, job: Job, *, batch_deadline_s: float | None) -> None:
        self._job = job
        self._batch_deadline_s = batch_deadline_s
        self._process: SpawnProcess | None = None

    def render(self, batch: Sequence[ViewRequest]) -> Sequence[RenderedView]:
        """What the renderer gives or raises for a batch.

        Raises:
            RenderError: The deadline passed, or its process died: each time, if it is one request.
            ShardError: No process can be started, which is the fault of no request.
        """
        for _ in range(ATTEMPTS if len(batch) == 1 else 1):
            if self._process is None:
                self._start()
            try:
                return self._ask(batch)
            except (EOFError, ConnectionError):
                self.close()
        raise RenderError(
            f"{batch[0].key} to {batch[-1].key}: the process that renders died (killed, out of "
            "memory or a crash in a library)"
        )

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._job), daemon=True)
        self._process.start()
        theirs.close()
        self._deadline = BatchDeadline(self._batch_deadline_s)
        problem: Exception | None = ShardError("the process that renders is not ready in time")
        try:
            if self._connection.poll(START_S):
                problem = self._connection.recv()
        except (EOFError, ConnectionError):
            problem = ShardError("the process that renders died before it was ready")
        if problem is not None:
            self.close()
            raise problem

    def _ask(self, batch: Sequence[ViewRequest]) -> Sequence[RenderedView]:
        limit_s, start = self._deadline.limit_s(), time.monotonic()
        self._connection.send(list(batch))
        if not self._connection.poll(limit_s):
            self.close()
            raise RenderError(
                f"{batch[0].key} to {batch[-1].key}: not rendered within {limit_s:g} s; a larger "
                "execution.batch_deadline_s allows more"
            )
        answer: Sequence[RenderedView] | Exception = self._connection.recv()
        self._deadline.note(time.monotonic() - start)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(connection: Connection, job: Job) -> None:
    """Render batches until the parent closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it here too; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        renderer = job.open_renderer()
    except Exception as exc:  # the parent raises it
        connection.send(_readable(exc))
        return
    connection.send(None)
    with suppress(EOFError):
        while True:
            batch = connection.recv()
            try:
                answer: list[RenderedView] | Exception = list(renderer.render(batch))
            except Exception as exc:  # the parent raises it
                answer = _readable(exc)
            connection.send(answer)


def _readable(exc: Exception) -> Exception:
    """An error that the parent can read: one of ours in place of one whose class it has not."""
    try:
        pickle.loads(pickle.dumps(exc))
    except Exception:
        return RendererError(f"{type(exc).__name__}: {one_line(exc)}")
    return exc


def _end_with_parent() -> None:
    """Also in the middle of a batch that never ends, when the worker was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
