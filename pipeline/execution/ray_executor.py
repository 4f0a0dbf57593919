"""Plain Ray actors, one per GPU (or per core), fed by this driver. Only this file knows Ray.

The driver owns the queue and storage owns the truth: actors are never restarted by Ray, their
calls never repeated by it, and no pixels pass through it. What has to be known of Ray 2.60:

- Without a dashboard it still starts agents; usage reports and metrics are switched off here.
- It binds to the machine's own address; a local cluster is bound to loopback (`LOOPBACK`).
- A cluster may ask for a token. A driver that joins sends one only if it is told to, so it is told
  whenever it has one (`RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH` or `~/.ray/auth_token`).
"""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# Read by Ray when it is imported, so it has to be said before.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_enable_metrics_collection", "0")
# Ray makes its workers yield to every other process; rendering is the job itself.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Fast on a real death, patient with a machine that is only slow.
os.environ.setdefault("RAY_health_check_period_ms", "1000")
os.environ.setdefault("RAY_health_check_timeout_ms", "60000")
os.environ.setdefault("RAY_health_check_failure_threshold", "5")
if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ} or (
    Path.home() / ".ray" / "auth_token"
).exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
from pydantic import Field
from ray.exceptions import RayActorError, RayError

from manifests.foundation.errors import SynthError
from manifests.foundation.settings import Table
from pipeline.errors import ExecutorError, ShardError
from pipeline.job import Job
from pipeline.retrying import Attempt, ShardFailure, WorkQueue
from pipeline.worker import SHARDS_IN_FLIGHT, ShardReport, ShardWorker

log = logging.getLogger(__name__)

MAX_STILLBORN = 3
"""Workers in a row that die before they are ready; then the job ends."""
SAY_WAITING_EVERY_S = 30.0
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Ray turns 127.0.0.1 into the machine's own address, where others could reach it."""
OBJECT_STORE_BYTES = 100 << 20
"""Nothing but reports passes through it."""


class _Actor:
    """A worker in its own process. Our errors are returned, so that they arrive as they are."""

    def __init__(self, job: Job) -> None:
        self._worker: ShardWorker | SynthError
        try:
            self._worker = ShardWorker.open(job)
        except SynthError as exc:
            self._worker = exc

    def ready(self) -> Exception | None:
        """None, or why this worker cannot work."""
        return self._worker if isinstance(self._worker, Exception) else None

    def make(self, attempt: Attempt) -> ShardReport | Exception:
        """A report, or the error that ended the attempt."""
        if isinstance(self._worker, Exception):
            return self._worker
        try:
            return self._worker.make(attempt)
        except SynthError as exc:
            return type(exc)(str(exc))


@dataclass(eq=False, slots=True)
class _Seat:
    """An actor and what it is doing."""

    handle: Any
    is_ready: bool = False
    num_running: int = 0
    serves_last_try: bool = False


class RayConfig(Table):
    """Table [execution] of a recipe."""

    executor: Literal["ray"] = "ray"
    workers: int | None = Field(default=None, ge=1)
    """One for each GPU, or for each core where there is none, if not given."""
    ray_address: str = "local"
    """`local` starts a cluster on this machine that ends with the job; `auto` and HOST:PORT join
    one."""


class RayExecutor:
    """Executor `ray`. The laws are in `pipeline.execution`."""

    Config = RayConfig

    def __init__(self, config: RayConfig) -> None:
        self._workers = config.workers
        self._address = config.ray_address

    def run(self, shards: Sequence[int], job: Job) -> Iterator[ShardReport | ShardFailure]:
        """Make the shards on the cluster; a local one lives as long as the job."""
        self._connect()
        try:
            yield from _Driver(self._num_workers(job, len(shards)), job).run(WorkQueue(shards))
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            if self._address == "local":
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _node_ip_address=LOOPBACK,
                    **quiet,
                )
            else:
                ray.init(address=self._address, **quiet)
        except (RayError, ConnectionError, ValueError, RuntimeError, OSError) as exc:
            reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            raise ExecutorError(
                f"ray at {self._address}: cannot connect ({reason}); start a cluster with "
                "`ray start --head` and share its token, or give --ray-address local"
            ) from exc

    def _num_workers(self, job: Job, num_shards: int) -> int:
        resource = "GPU" if job.resources.device_type == "cuda" else "CPU"
        each = 1 if resource == "GPU" else job.resources.threads
        available = int(ray.cluster_resources().get(resource, 0)) // each
        if self._workers is None and not available:
            raise ExecutorError(
                f"ray at {self._address}: no {resource} in the cluster; add nodes or give --workers"
            )
        return max(1, min(self._workers or available, num_shards))


class _Driver:
    """The loop that keeps every seat busy."""

    def __init__(self, num_workers: int, job: Job) -> None:
        self._num_workers = num_workers
        options = {"num_cpus": job.resources.threads, "max_restarts": 0, "max_task_retries": 0}
        if job.resources.device_type == "cuda":
            options["num_gpus"] = 1
        self._actor = ray.remote(max_concurrency=SHARDS_IN_FLIGHT, **options)(_Actor)
        self._job = ray.put(job)
        self._seats: list[_Seat] = []
        self._running: dict[Any, tuple[_Seat, Attempt | None]] = {}
        self._num_stillborn = 0

    def run(self, queue: WorkQueue) -> Iterator[ShardReport | ShardFailure]:
        """Feed, wait, account, until nothing waits and nothing runs."""
        last_news = time.monotonic()
        while queue or any(attempt for _, attempt in self._running.values()):
            self._feed(queue)
            done, _ = ray.wait(list(self._running), num_returns=1, timeout=1.0)
            if done:
                last_news = time.monotonic()
            elif not any(seat.is_ready for seat in self._seats):
                if time.monotonic() - last_news > SAY_WAITING_EVERY_S:
                    log.warning("waiting for %d workers to start", self._num_workers)
                    last_news = time.monotonic()
            for reference in done:
                yield from self._account(queue, reference)

    def _feed(self, queue: WorkQueue) -> None:
        while len(self._seats) < self._num_workers and queue.num_shared:
            self._seat()
        for seat in self._seats:
            while (
                seat.is_ready
                and not seat.serves_last_try
                and seat.num_running < SHARDS_IN_FLIGHT
                and (attempt := queue.take())
            ):
                self._start(seat, attempt)
        self._feed_last_try(queue)

    def _feed_last_try(self, queue: WorkQueue) -> None:
        """When nothing else runs or waits: a fresh worker, and its shard once it is ready.

        Every other seat goes, also one that still waits for its place in the cluster: it would
        take the place of the fresh one. A shard is started only on a worker that is ready, so
        that what the shard does to it is not taken for a worker that cannot start.
        """
        if not queue or queue.num_shared or any(each for _, each in self._running.values()):
            return
        if not any(seat.serves_last_try for seat in self._seats):
            for old in list(self._seats):
                self._drop(old)
            self._seat().serves_last_try = True
        for seat in self._seats:
            if seat.is_ready and (attempt := queue.take_alone()):
                self._start(seat, attempt)

    def _seat(self) -> _Seat:
        seat = _Seat(handle=self._actor.remote(self._job))
        self._seats.append(seat)
        self._running[seat.handle.ready.remote()] = seat, None
        return seat

    def _start(self, seat: _Seat, attempt: Attempt) -> None:
        seat.num_running += 1
        self._running[seat.handle.make.remote(attempt)] = seat, attempt

    def _drop(self, seat: _Seat) -> None:
        if seat in self._seats:
            self._seats.remove(seat)
            ray.kill(seat.handle)

    def _account(self, queue: WorkQueue, reference: Any) -> Iterator[ShardReport | ShardFailure]:
        seat, attempt = self._running.pop(reference)
        seat.num_running -= attempt is not None
        try:
            result = ray.get(reference)
        except RayActorError as exc:
            self._bury(seat, exc)
            result = ShardError("the worker died (killed, out of memory, or a crash in a library)")
        if isinstance(result, SynthError) and not isinstance(result, ShardError):
            raise result
        if attempt is None:
            seat.is_ready = result is None
            if result is None:
                self._num_stillborn = 0
            return
        if isinstance(result, ShardReport):
            yield result
        elif (given_up := queue.failed(attempt, str(result))) is not None:
            yield given_up
        if seat.serves_last_try:
            self._drop(seat)

    def _bury(self, seat: _Seat, exc: RayActorError) -> None:
        if not seat.is_ready and seat in self._seats:
            self._num_stillborn += 1
            if self._num_stillborn >= MAX_STILLBORN:
                reason = [line for line in str(exc).splitlines() if line.strip()][-1].strip()
                raise ExecutorError(
                    f"{MAX_STILLBORN} workers in a row died while they started ({reason}); "
                    "try --executor inline to see why"
                ) from exc
        self._drop(seat)
