"""The loop that keeps every worker busy."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError

from manifests.foundation.errors import SynthError
from pipeline.errors import ExecutorError, ShardError
from pipeline.execution.ray_executor.actor import Actor
from pipeline.execution.ray_executor.metrics import DriverMetrics
from pipeline.job import Job
from pipeline.retrying import Attempt, ShardFailure, WorkQueue, slow_attempts
from pipeline.shard_report import ShardReport, Underway
from pipeline.versions import versions_here
from pipeline.worker import SHARDS_IN_FLIGHT

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""How often a worker is asked how far its shards are; less often where there are many."""
LOOKS_PER_S = 50.0
"""Workers that are asked in a second, at most."""
GROW_EVERY_S = 5.0
"""How often a driver looks whether the cluster has grown."""
MAX_STILLBORN = 3
"""So many workers in a row may die before they are ready; then the job ends."""
SAY_WAITING_EVERY_S = 30.0
"""A driver without a ready worker says so this often: the cluster may have no room for one."""


@dataclass(eq=False, slots=True)
class Seat:
    """An actor and what it is doing."""

    handle: Any
    is_ready: bool = False
    """Whether its worker has loaded the renderer and passed the check against the recipe."""
    num_running: int = 0
    """Attempts that it is making now, at most SHARDS_IN_FLIGHT."""
    serves_last_try: bool = False
    """Whether it was started for the last try of one shard; it is dropped after that."""
    nodes: frozenset[str] = frozenset()
    """Of the cluster when it was started; it is on one of them, or waits for room."""


@dataclass(eq=False, slots=True)
class Call:
    """A call of an actor that has not ended."""

    seat: Seat
    attempt: Attempt | None = None
    """None for a call of `ready` or of `num_rendered`."""
    is_look: bool = False
    """Whether it is a call of `num_rendered`."""
    started_at: float = field(default_factory=time.monotonic)


def living_nodes() -> frozenset[str]:
    """Ids of the nodes of the cluster that have not died."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


class Driver:
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
        self._nodes = living_nodes()
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
        # One call more than shards, which asks how far these are.
        self._actor = ray.remote(max_concurrency=SHARDS_IN_FLIGHT + 1, **options)(Actor)
        self._metrics = DriverMetrics(job.url)
        self._job = ray.put(job)  # once, and not again for each actor
        self._versions = versions_here()
        self._noted: set[str] = set()
        """What was said of nodes, each line once."""
        self._seats: list[Seat] = []
        self._running: dict[Any, Call] = {}
        """By Ray's reference."""
        self._twice: set[int] = set()
        """Shards for which a second call was started."""
        self._made: set[int] = set()
        """Those of them whose outcome is known; the other call may still run."""
        self._durations: deque[float] = deque(maxlen=1000)
        """Seconds of the last successful attempts."""
        self._num_stillborn = 0
        self._num_rendered: dict[int, int] = {}
        """Views that are rendered so far, by shard, as workers told last."""
        self._has_news = False
        self._looked_at = time.monotonic()

    def run(self, queue: WorkQueue) -> Iterator[ShardReport | ShardFailure | Underway]:
        """Start shards, wait for one to end, account for it, until none is left.

        The loop does not wait for workers that are still starting: when no shard is left, there is
        nothing for them to do.
        """
        last_news = time.monotonic()
        while queue or any(self._attempts()):
            self._grow()
            self._feed(queue)
            num_ready = sum(seat.is_ready for seat in self._seats)
            self._metrics.show(waiting=len(queue), workers=num_ready)
            # In the order in which calls end, so that a slow shard keeps no worker waiting; and all
            # that have ended at once, because a wait costs as much as there are calls.
            calls = list(self._running)
            done, _ = ray.wait(calls, num_returns=1, timeout=1.0)
            if done:
                done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
                last_news = time.monotonic()
            elif not num_ready:
                if time.monotonic() - last_news > SAY_WAITING_EVERY_S:
                    log.warning("waiting for %d workers to start", self._num_workers)
                    last_news = time.monotonic()
            for reference in done:
                yield from self._account(queue, reference)
            self._look()
            if self._has_news:
                self._has_news = False
                # An answer may have come after the outcome of its shard.
                making = {call.attempt.shard for call in self._attempts() if call.attempt}
                known = self._num_rendered.items()
                self._num_rendered = {shard: views for shard, views in known if shard in making}
                yield Underway(num_rendered=self._num_rendered)

    def _look(self) -> None:
        """Ask the workers how far they are, if it is time to."""
        every_s = max(LOOK_EVERY_S, len(self._seats) / LOOKS_PER_S)
        if time.monotonic() - self._looked_at < every_s:
            return
        self._looked_at = time.monotonic()
        asked = {id(call.seat) for call in self._running.values() if call.is_look}
        for seat in self._seats:
            if seat.num_running and id(seat) not in asked:  # a busy one may not have answered yet
                self._running[seat.handle.num_rendered.remote()] = Call(seat, is_look=True)

    def _attempts(self) -> Iterator[Call]:
        """Calls that make a shard whose outcome is not known."""
        for call in self._running.values():
            if call.attempt is not None and call.attempt.shard not in self._made:
                yield call

    def _grow(self) -> None:
        """Nodes that have joined since give more workers; a cluster that shrank loses none here."""
        if time.monotonic() - self._counted_at > GROW_EVERY_S:
            self._counted_at = time.monotonic()
            self._nodes = living_nodes()
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
            self._twice.add(attempt.shard)
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

    def _seat(self) -> Seat:
        """Start a worker; its call of `ready`, without an attempt, tells when it can be used."""
        handle = self._actor.remote(self._job, self._batch_deadline_s, self._versions)
        seat = Seat(handle=handle, nodes=self._nodes)
        self._seats.append(seat)
        self._running[seat.handle.ready.remote()] = Call(seat)
        return seat

    def _start(self, seat: Seat, attempt: Attempt) -> None:
        seat.num_running += 1
        self._running[seat.handle.make.remote(attempt)] = Call(seat, attempt)

    def _drop(self, seat: Seat) -> None:
        if seat in self._seats:
            self._seats.remove(seat)
            ray.kill(seat.handle)

    def _account(self, queue: WorkQueue, reference: Any) -> Iterator[ShardReport | ShardFailure]:
        """Take the result of one ended call: of `ready` (no attempt) or of `make`."""
        call = self._running.pop(reference)
        seat, attempt = call.seat, call.attempt
        if call.is_look:
            with suppress(RayActorError):  # that the worker died is told by its other calls
                self._num_rendered = self._num_rendered | ray.get(reference)
                self._has_news = True
            return
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
            if not isinstance(result, SynthError):
                seat.is_ready, self._num_stillborn = True, 0
                self._note(result)
            return
        if attempt.shard in self._made:
            pass  # its other call was first
        elif isinstance(result, ShardReport):
            self._made |= {attempt.shard} & self._twice  # of a million, no more are kept
            self._durations.append(time.monotonic() - call.started_at)
            yield result
        elif any(other.attempt == attempt for other in self._attempts()):
            pass  # its other call may still make it
        elif (given_up := queue.failed(attempt, str(result))) is not None:
            yield given_up
        if seat.serves_last_try:
            self._drop(seat)

    def _note(self, unlike_here: Sequence[str]) -> None:
        """Say what on the node of a new worker is unlike this machine."""
        for line in unlike_here:
            if line not in self._noted:
                self._noted.add(line)
                log.warning("%s; pixels may differ in their last bits", line)

    def _bury(self, seat: Seat, exc: RayActorError) -> None:
        """Drop a dead worker. Too many in a row that died before they were ready end the job."""
        # A worker that we dropped ourselves while it started is no longer in the list; it does
        # not count. Nor does one that may have died with its node, of which others start again.
        if not seat.is_ready and seat in self._seats and seat.nodes <= living_nodes():
            self._num_stillborn += 1
            if self._num_stillborn >= MAX_STILLBORN:
                # Ray's message has many lines; the last one says how the process ended.
                reason = [line for line in str(exc).splitlines() if line.strip()][-1].strip()
                raise ExecutorError(
                    f"{MAX_STILLBORN} workers in a row died while they started ({reason}); "
                    "try --executor inline to see why"
                ) from exc
        self._drop(seat)
