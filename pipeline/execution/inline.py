"""Everything in this process: one worker, no cluster."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from manifests.foundation.errors import ConfigError
from pipeline.errors import ShardError
from pipeline.retrying import Attempt, ShardFailure, WorkQueue
from pipeline.worker import SHARDS_IN_FLIGHT, Job, ShardReport


class InlineExecutor:
    """Executor `inline`. The laws are in `pipeline.execution`."""

    def __init__(self, *, workers: int | None, ray_address: str) -> None:
        if workers not in (None, 1):
            raise ConfigError(
                f"{workers} workers: the inline executor is one process; give --executor ray"
            )
        if ray_address != "local":
            raise ConfigError("--ray-address: only --executor ray uses it")

    def run(self, shards: Sequence[int], job: Job) -> Iterator[ShardReport | ShardFailure]:
        """Make the shards, two in flight: one renders while the other is committed."""
        worker = job.open()
        queue = WorkQueue(shards)
        running: dict[Future[ShardReport], Attempt] = {}
        with ThreadPoolExecutor(SHARDS_IN_FLIGHT, thread_name_prefix="shard") as pool:
            while queue or running:
                while len(running) < SHARDS_IN_FLIGHT and (attempt := queue.take()):
                    running[pool.submit(worker.make, attempt)] = attempt
                if not running and (attempt := queue.take_alone()):
                    running[pool.submit(worker.make, attempt)] = attempt
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    attempt = running.pop(done)
                    try:
                        yield done.result()
                    except ShardError as exc:
                        if (given_up := queue.failed(attempt, str(exc))) is not None:
                            yield given_up
