"""Metrics of a running job at the endpoint of its Ray cluster, where that collects them.

Prometheus finds them there under names that begin with `ray_`. What a set holds, also after the
job, is told from its storage (`pipeline.exposition`).
"""

from ray.util.metrics import Counter, Gauge

from manifests.foundation.messages import redact
from pipeline.shard_report import PHASES, ShardReport


class WorkerMetrics:
    """Of one worker."""

    def __init__(self, url: str) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            made = Counter(name, description=meaning, tag_keys=("set", *labels))
            made.set_default_tags({"set": redact(url)})
            return made

        self._views = counter("synth_views", "Views that were stored, good and failed.", "state")
        self._seconds = counter("synth_seconds", "What the worker did.", "phase")
        self._repeats = counter("synth_storage_repeats", "Calls of the storage made again.")
        self._failed = counter("synth_failed_attempts", "Attempts at shards that failed.")

    def committed(self, report: ShardReport) -> None:
        """Count a shard."""
        counts = {"good": report.num_ok, "failed": report.num_views - report.num_ok}
        for state, count in counts.items():
            _add(self._views, count, state=state)
        for phase in PHASES:
            _add(self._seconds, getattr(report, f"{phase}_s"), phase=phase)
        _add(self._repeats, report.storage_repeats)

    def failed(self) -> None:
        """Count an attempt that failed."""
        _add(self._failed, 1)


class DriverMetrics:
    """Of the driver: shards that wait, and workers that are ready."""

    def __init__(self, url: str) -> None:
        self._waiting = Gauge("synth_waiting_shards", tag_keys=("set",))
        self._workers = Gauge("synth_ready_workers", tag_keys=("set",))
        for gauge in (self._waiting, self._workers):
            gauge.set_default_tags({"set": redact(url)})

    def show(self, *, waiting: int, workers: int) -> None:
        self._waiting.set(waiting)
        self._workers.set(workers)


def _add(counter: Counter, value: float, **labels: str) -> None:
    if value > 0:  # Ray refuses to add nothing
        counter.inc(value, tags=labels)
