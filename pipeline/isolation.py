"""A renderer in a process of its own, so that a request that kills it costs nothing else.

The last attempt of a shard renders so (`pipeline.retrying`): a crash in a library, a batch beyond
its deadline or a process that the system ends for its memory are errors of requests then, as those
that a renderer raises.
"""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from pipeline.deadline import BatchDeadline
from pipeline.errors import RenderError
from pipeline.job import Job
from pipeline.renderers import Renderer
from pipeline.views import RenderedView, ViewRequest

ATTEMPTS = 2
"""Times that a request is rendered before its process is taken to have died because of it, and not
because of what else the machine does."""


class RendererProcess:
    """Renders in a process that is started when it is needed, and started again when it died."""

    def __init__(self, job: Job, *, batch_deadline_s: float | None) -> None:
        self._arguments = job, batch_deadline_s
        self._pool: ProcessPoolExecutor | None = None

    def render(self, batch: Sequence[ViewRequest]) -> Sequence[RenderedView]:
        """What the renderer gives or raises for a batch.

        Raises:
            RenderError: Its process died, as it did each time for a single request.
        """
        for _ in range(ATTEMPTS if len(batch) == 1 else 1):
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    1,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_open,
                    initargs=self._arguments,
                )
            try:
                return self._pool.submit(_render, list(batch)).result()
            except BrokenProcessPool:
                self.close()
        raise RenderError(
            f"{batch[0].key} to {batch[-1].key}: the process that renders died (killed, out of "
            "memory, a crash in a library, or a batch beyond execution.batch_deadline_s)"
        )

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


_renderer: Renderer
_deadline: BatchDeadline
"""Those of this process, if it is a `RendererProcess`."""


def _open(job: Job, batch_deadline_s: float | None) -> None:
    global _renderer, _deadline
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _renderer, _deadline = job.open_renderer(), BatchDeadline(batch_deadline_s)


def _end_with_parent() -> None:
    """A worker that is killed ends no child: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _render(batch: list[ViewRequest]) -> Sequence[RenderedView]:
    with _deadline.watching(f"{batch[0].key} to {batch[-1].key}"):
        return list(_renderer.render(batch))
