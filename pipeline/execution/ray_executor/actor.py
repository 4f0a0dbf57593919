"""A worker in a process of its own, which Ray starts."""

import socket
from collections.abc import Mapping, Sequence

from manifests.foundation.errors import PluginError, SynthError
from manifests.foundation.plugins import blame
from pipeline.errors import ShardError
from pipeline.execution.ray_executor.metrics import WorkerMetrics
from pipeline.job import Job
from pipeline.retrying import Attempt
from pipeline.shard_report import ShardReport
from pipeline.versions import unlike_driver, versions_here
from pipeline.worker import ShardWorker


class Actor:
    """Makes shards, and returns errors instead of raising them.

    Ray would wrap what is raised in an error of its own, with the traceback in the message.
    """

    def __init__(
        self, job: Job, batch_deadline_s: float | None, driver_versions: Mapping[str, str]
    ) -> None:
        self._worker: ShardWorker | SynthError
        self._metrics = WorkerMetrics(job.url)
        self._driver_versions = driver_versions
        try:
            self._worker = ShardWorker.open(job, batch_deadline_s=batch_deadline_s)
        except Exception as exc:
            self._worker = _as_ours(exc)

    def ready(self) -> Exception | Sequence[str]:
        """Why this worker cannot work, or what on its node is unlike the driver."""
        if isinstance(self._worker, Exception):
            return self._worker
        unlike = unlike_driver(self._driver_versions, versions_here())
        return [f"{socket.gethostname()}: {line}" for line in unlike]

    def num_rendered(self) -> dict[int, int]:
        """Views that are rendered so far of each shard that is being made."""
        return {} if isinstance(self._worker, Exception) else self._worker.num_rendered()

    def make(self, attempt: Attempt) -> ShardReport | Exception:
        """A report, or the error that ended the attempt."""
        if isinstance(self._worker, Exception):
            return self._worker
        try:
            report = self._worker.make(attempt)
        except Exception as exc:
            self._metrics.failed()
            return _as_ours(exc)
        self._metrics.committed(report)
        return report


def _as_ours(exc: Exception) -> SynthError:
    """A copy of class and message alone, because whatever else hangs on it may not be picklable.

    What ends the job may be wrong on one node of many, so the message names it.

    Raises:
        Exception: The same, if it is a bug of ours: then Ray sends the traceback.
    """
    if isinstance(exc, SynthError):
        where = "" if isinstance(exc, ShardError) else f" (on {socket.gethostname()})"
        return type(exc)(f"{exc}{where}")
    if message := blame(exc):
        return PluginError(f"{message} (on {socket.gethostname()})")
    raise exc
