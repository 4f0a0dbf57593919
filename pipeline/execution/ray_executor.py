"""Plain Ray actors, one per GPU (or per core), fed by this driver. Only this file knows Ray.

The driver owns the queue, and storage knows what is done. Ray never restarts an actor and never
repeats a call, and no pixels pass through it (docs/adr/0005). What has to be known of Ray 2.60:

- It starts its agents even without a dashboard; usage reports and metrics are switched off here.
- It binds to the machine's own address; a local cluster is bound to loopback (`LOOPBACK`).
- A cluster may ask for a token. A driver that joins sends its token only with
  `RAY_AUTH_MODE=token`, so that is set whenever this machine has a token (`RAY_AUTH_TOKEN`,
  `RAY_AUTH_TOKEN_PATH` or `~/.ray/auth_token`).
"""

import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

# Ray reads these variables when it is imported, so they are set before the import below.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_enable_metrics_collection", "0")
# Ray gives its workers a low priority; here they are the job itself.
os.environ.setdefault("RAY_worker_niceness", "0")
# A worker on the CPU keeps the CUDA_VISIBLE_DEVICES that it inherits.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ask often whether a node lives, but wait a minute for the answer: a busy machine is not dead.
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

from manifests.foundation.errors import ConfigError, PluginError, SynthError
from manifests.foundation.plugins import blame
from manifests.foundation.settings import Table
from pipeline.errors import ExecutorError, ShardError
from pipeline.job import Job
from pipeline.retrying import Attempt, ShardFailure, WorkQueue, slow_attempts
from pipeline.worker import SHARDS_IN_FLIGHT, ShardReport, ShardWorker

log = logging.getLogger(__name__)

GROW_EVERY_S = 5.0
"""How often a driver looks whether the cluster has grown."""
MAX_STILLBORN = 3
"""So many workers in a row may die before they are ready; then the job ends."""
SAY_WAITING_EVERY_S = 30.0
"""A driver without a ready worker says so this often: the cluster may have no room for one."""
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""On Linux another loopback address, because Ray replaces 127.0.0.1 by the machine's own address,
where other machines could reach the cluster."""
OBJECT_STORE_BYTES = 100 << 20
"""Small, because only the job, attempts and reports pass through the object store."""


class _Actor:
    """A worker in its own process.

    It returns errors instead of raising them: Ray would wrap what is raised in an error of its own,
    with the traceback in the message.
    """

    def __init__(self, job: Job, batch_deadline_s: float | None) -> None:
        self._worker: ShardWorker | SynthError
        try:
            self._worker = ShardWorker.open(job, batch_deadline_s=batch_deadline_s)
        except Exception as exc:
            self._worker = _as_ours(exc)

    def ready(self) -> Exception | None:
        """None, or why this worker cannot work."""
        return self._worker if isinstance(self._worker, Exception) else None

    def make(self, attempt: Attempt) -> ShardReport | Exception:
        """A report, or the error that ended the attempt."""
        if isinstance(self._worker, Exception):
            return self._worker
        try:
            return self._worker.make(attempt)
        except Exception as exc:
            return _as_ours(exc)


def _as_ours(exc: Exception) -> SynthError:
    """A copy of class and message alone, because whatever else hangs on it may not be picklable.

    Raises:
        Exception: The same, if it is a bug of ours: then Ray sends the traceback.
    """
    if isinstance(exc, SynthError):
        return type(exc)(str(exc))
    if message := blame(exc):
        return PluginError(message)
    raise exc


@dataclass(eq=False, slots=True)
class _Seat:
    """An actor and what it is doing."""

    handle: Any
    is_ready: bool = False
    """Whether its worker has loaded the renderer and passed the check against the recipe."""
    num_running: int = 0
    """Attempts that it is making now, at most SHARDS_IN_FLIGHT."""
    serves_last_try: bool = False
    """Whether it was started for the last try of one shard; it is dropped after that."""


@dataclass(eq=False, slots=True)
class _Call:
    """A call of an actor that has not ended."""

    seat: _Seat
    attempt: Attempt | None = None
    """None for a call of `ready`."""
    started_at: float = field(default_factory=time.monotonic)


class RayConfig(Table):
    """Table [execution] of a recipe."""

    executor: Literal["ray"] = "ray"
    workers: int | None = Field(default=None, ge=1)
    """Number of workers. If not given, one for each GPU, or on the CPU one for each
    `renderer.threads` cores, also of nodes that join while the job runs."""
    workers_per_gpu: int = Field(default=1, ge=1, le=64)
    """More than one lets small models share a GPU; give `renderer.batch_size` a number with it,
    because `auto` counts on the whole memory."""
    batch_deadline_s: float | None = Field(default=None, gt=0)
    """Seconds after which a batch is taken for one that hangs, and its worker is replaced. If not
    given, 20 times the longest of that worker, at least 5 minutes; an hour for the first. The first
    has ten times what is given, because it loads the model."""
    ray_address: str = "local"
    """`local` starts a cluster on this machine that ends with the job; `auto` and HOST:PORT join
    a running one."""


class RayExecutor:
    """Executor `ray`. The laws are in `pipeline.execution`."""

    Config = RayConfig

    def __init__(self, config: RayConfig) -> None:
        self._workers = config.workers
        self._per_gpu = config.workers_per_gpu
        self._address = config.ray_address
        self._batch_deadline_s = config.batch_deadline_s

    def run(self, shards: Sequence[int], job: Job) -> Iterator[ShardReport | ShardFailure]:
        """Make the shards on the cluster; a local one lives as long as the job."""
        self._connect()
        try:
            count = partial(self._num_workers, job, len(shards))
            driver = _Driver(count, job, self._per_gpu, self._batch_deadline_s)
            yield from driver.run(WorkQueue(shards))
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGUSR1)}
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
        finally:
            # Ray sets handlers of its own, which end the process in the middle of anything.
            if threading.current_thread() is threading.main_thread():
                for kind, handler in handlers.items():
                    signal.signal(kind, handler)

    def _num_workers(self, job: Job, num_shards: int) -> int:
        resource = "GPU" if job.resources.device_type == "cuda" else "CPU"
        units = int(ray.cluster_resources().get(resource, 0))
        needed = job.resources.threads if resource == "CPU" else job.resources.gpus
        available = units // needed
        if resource == "GPU" and self._per_gpu > 1:
            if needed > 1:
                raise ConfigError(
                    f"execution.workers_per_gpu {self._per_gpu}: a worker of this set has {needed} "
                    "GPUs of its own; leave it out"
                )
            available = units * self._per_gpu
        # A number that the user gives is taken as it is: nodes may join later.
        if self._workers is None and not available:
            raise ExecutorError(
                f"ray at {self._address}: a worker needs {needed} {resource}, and the cluster has "
                f"{units}; add nodes or give --workers"
            )
        return max(1, min(self._workers or available, num_shards))


class _Driver:
    """The loop that keeps every seat busy."""

    def __init__(
        self,
        count_workers: Callable[[], int],
        job: Job,
        workers_per_gpu: int,
        batch_deadline_s: float | None,
    ) -> None:
        self._count_workers = count_workers
        self._num_workers = count_workers()
        self._counted_at = time.monotonic()
        self._batch_deadline_s = batch_deadline_s
        # Ray must not restart an actor or repeat a call: the queue would not know of it.
        options: dict[str, Any] = {
            "num_cpus": job.resources.threads,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if job.resources.device_type == "cuda":
            # Ray counts in ten thousandths: rounded up, the last worker would wait for ever.
            share = 10_000 // workers_per_gpu / 10_000
            options["num_gpus"] = share if workers_per_gpu > 1 else job.resources.gpus
        self._actor = ray.remote(max_concurrency=SHARDS_IN_FLIGHT, **options)(_Actor)
        self._job = ray.put(job)  # once, and not again for each actor
        self._seats: list[_Seat] = []
        self._running: dict[Any, _Call] = {}
        """By Ray's reference."""
        self._made: set[int] = set()
        """Shards whose outcome is known; a second call for one of them may still run."""
        self._durations: deque[float] = deque(maxlen=1000)
        """Seconds of the last successful attempts."""
        self._num_stillborn = 0

    def run(self, queue: WorkQueue) -> Iterator[ShardReport | ShardFailure]:
        """Start shards, wait for one to end, account for it, until none is left.

        The loop does not wait for workers that are still starting: when no shard is left, there is
        nothing for them to do.
        """
        last_news = time.monotonic()
        while queue or any(self._attempts()):
            self._grow()
            self._feed(queue)
            # In the order in which calls end, so that a slow shard keeps no worker waiting; and all
            # that have ended at once, because a wait costs as much as there are calls.
            calls = list(self._running)
            done, _ = ray.wait(calls, num_returns=1, timeout=1.0)
            if done:
                done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
                last_news = time.monotonic()
            elif not any(seat.is_ready for seat in self._seats):
                if time.monotonic() - last_news > SAY_WAITING_EVERY_S:
                    log.warning("waiting for %d workers to start", self._num_workers)
                    last_news = time.monotonic()
            for reference in done:
                yield from self._account(queue, reference)

    def _attempts(self) -> Iterator[_Call]:
        """Calls that make a shard whose outcome is not known."""
        for call in self._running.values():
            if call.attempt is not None and call.attempt.shard not in self._made:
                yield call

    def _grow(self) -> None:
        """Nodes that have joined since give more workers; a cluster that shrank loses none here."""
        if time.monotonic() - self._counted_at > GROW_EVERY_S:
            self._counted_at = time.monotonic()
            with suppress(ExecutorError):  # without any node just now; its workers are buried
                self._num_workers = max(self._num_workers, self._count_workers())

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
        self._start_slow_ones_again(queue)
        self._feed_last_try(queue)

    def _start_slow_ones_again(self, queue: WorkQueue) -> None:
        """Let idle workers make the shards that take longest as well; the first one counts."""
        if queue.num_shared:
            return
        now = time.monotonic()
        running = [(c.attempt, now - c.started_at) for c in self._attempts() if c.attempt]
        slow = slow_attempts(running, self._durations)
        idle = [s for s in self._seats if s.is_ready and not s.num_running]
        for seat, attempt in zip(idle, slow, strict=False):
            log.info("shard %d takes long and is made by another worker as well", attempt.shard)
            self._start(seat, attempt)

    def _feed_last_try(self, queue: WorkQueue) -> None:
        """Once nothing else runs or waits, start a fresh worker and give it one last try.

        All other workers are dropped first, including those that the cluster has no room for yet:
        one of them could take the room of the fresh worker. The shard is started only when the
        worker is ready, so that a shard that kills its worker does not look like a worker that
        cannot start.
        """
        if not queue or queue.num_shared or any(self._attempts()):
            return
        if not any(seat.serves_last_try for seat in self._seats):
            for old in list(self._seats):
                self._drop(old)
            self._seat().serves_last_try = True
        for seat in self._seats:
            if seat.is_ready and (attempt := queue.take_alone()):
                self._start(seat, attempt)

    def _seat(self) -> _Seat:
        """Start a worker; its call of `ready`, without an attempt, tells when it can be used."""
        seat = _Seat(handle=self._actor.remote(self._job, self._batch_deadline_s))
        self._seats.append(seat)
        self._running[seat.handle.ready.remote()] = _Call(seat)
        return seat

    def _start(self, seat: _Seat, attempt: Attempt) -> None:
        seat.num_running += 1
        self._running[seat.handle.make.remote(attempt)] = _Call(seat, attempt)

    def _drop(self, seat: _Seat) -> None:
        if seat in self._seats:
            self._seats.remove(seat)
            ray.kill(seat.handle)

    def _account(self, queue: WorkQueue, reference: Any) -> Iterator[ShardReport | ShardFailure]:
        """Take the result of one ended call: of `ready` (no attempt) or of `make`."""
        call = self._running.pop(reference)
        seat, attempt = call.seat, call.attempt
        seat.num_running -= attempt is not None
        try:
            result = ray.get(reference)
        except RayActorError as exc:
            # The call for the worker's other shard fails too, and comes here by itself.
            self._bury(seat, exc)
            result = ShardError(
                "the worker died (killed, out of memory, a crash in a library, or a batch beyond "
                "execution.batch_deadline_s)"
            )
        if isinstance(result, SynthError) and not isinstance(result, ShardError):
            raise result
        if attempt is None:
            seat.is_ready = result is None
            if result is None:
                self._num_stillborn = 0
            return
        if attempt.shard in self._made:
            pass  # its other call was first
        elif isinstance(result, ShardReport):
            self._made.add(attempt.shard)
            self._durations.append(time.monotonic() - call.started_at)
            yield result
        elif any(other.attempt == attempt for other in self._attempts()):
            pass  # its other call may still make it
        elif (given_up := queue.failed(attempt, str(result))) is not None:
            yield given_up
        if seat.serves_last_try:
            self._drop(seat)

    def _bury(self, seat: _Seat, exc: RayActorError) -> None:
        """Drop a dead worker. Too many in a row that died before they were ready end the job."""
        # A worker that we dropped ourselves while it started is no longer in the list; it does
        # not count.
        if not seat.is_ready and seat in self._seats:
            self._num_stillborn += 1
            if self._num_stillborn >= MAX_STILLBORN:
                # Ray's message has many lines; the last one says how the process ended.
                reason = [line for line in str(exc).splitlines() if line.strip()][-1].strip()
                raise ExecutorError(
                    f"{MAX_STILLBORN} workers in a row died while they started ({reason}); "
                    "try --executor inline to see why"
                ) from exc
        self._drop(seat)
