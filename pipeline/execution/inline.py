"""Everything in this process: one worker, no cluster."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Literal

from pydantic import Field

from manifests.foundation.settings import Table
from pipeline.errors import ShardError
from pipeline.in_flight import InFlight, in_flight
from pipeline.job import Job
from pipeline.retrying import Attempt, ShardFailure, WorkQueue
from pipeline.shard_report import ShardReport, Underway
from pipeline.worker import SHARDS_IN_FLIGHT, ShardWorker

LOOK_EVERY_S = 0.5
"""Seconds between two reports of how far the shards are."""


class InlineConfig(Table):
    """Table [execution] of a recipe."""

    executor: Literal["inline"] = "inline"
    batch_deadline_s: float | None = Field(default=None, gt=0)
    """Seconds after which a batch is taken for one that hangs, and ends the job. The same
    command then goes on, and makes that shard apart. If not given, 20 times the longest so far, at
    least 5 minutes; an hour for the first. The first has ten times what is given, because it loads
    the model."""


class InlineExecutor:
    """Executor `inline`. The laws are in `pipeline.execution`."""

    Config = InlineConfig

    def __init__(self, config: InlineConfig) -> None:
        self.config = config

    def run(
        self, shards: Sequence[int], job: Job
    ) -> Iterator[ShardReport | ShardFailure | Underway]:
        """Make the shards, two in flight: one renders while the other is committed."""
        worker = self._open(job)
        with in_flight(job.url, worker.recipe_sha256) as flight:
            yield from self._make(shards, worker, flight)

    def _make(
        self, shards: Sequence[int], worker: ShardWorker, flight: InFlight
    ) -> Iterator[ShardReport | ShardFailure | Underway]:
        # Threads are enough: one renders while the other encodes and commits, and the libraries
        # that do so let other threads run.
        queue = WorkQueue(shards, suspects=flight.left.intersection(shards))
        running: dict[Future[ShardReport], Attempt] = {}

        def start(attempt: Attempt) -> None:
            flight.note([attempt.shard, *(one.shard for one in running.values())])
            running[pool.submit(worker.make, attempt)] = attempt

        with ThreadPoolExecutor(SHARDS_IN_FLIGHT, thread_name_prefix="shard") as pool:
            try:
                while queue or running:
                    while len(running) < SHARDS_IN_FLIGHT and (attempt := queue.take()):
                        start(attempt)
                    # There is no fresh worker here, but a last try renders in a fresh process.
                    if not running and (attempt := queue.take_alone()):
                        start(attempt)
                    while not (
                        ended := wait(
                            running, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED
                        ).done
                    ):
                        yield Underway(num_rendered=worker.num_rendered())
                    for done in ended:
                        attempt = running.pop(done)
                        flight.left.discard(attempt.shard)
                        try:
                            yield done.result()
                        except ShardError as exc:
                            if (given_up := queue.failed(attempt, str(exc))) is not None:
                                yield given_up
            except BaseException:
                worker.stop()  # the pool waits for its threads, and a shard can take many minutes
                raise

    def _open(self, job: Job) -> ShardWorker:
        return ShardWorker.open(job, batch_deadline_s=self.config.batch_deadline_s)
