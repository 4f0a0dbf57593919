"""Executors hand shards to workers. This folder holds only executors.

Laws, tested for every entry of the table (tests/conformance):

1. Every shard is either reported as made or as given up, each once.
2. A failure is retried as `pipeline.retrying` says and never swallowed.
3. An error that is not a shard's own (`PipelineError`, `ContractError`) ends the job.
4. The files that come out do not depend on the executor, the number of workers or the order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from manifests.foundation.plugins import Entry, load_plugin
from pipeline.retrying import ShardFailure
from pipeline.worker import Job, ShardReport


class Executor(Protocol):
    """See the laws above."""

    def __init__(self, *, workers: int | None, ray_address: str) -> None:
        """Prepare; start nothing yet. `workers` None means as many as there are devices."""

    def run(self, shards: Sequence[int], job: Job) -> Iterator[ShardReport | ShardFailure]:
        """Make the shards, in any order, yielding what became of each as it is known."""


EXECUTORS: Mapping[str, Entry] = {
    "ray": Entry("pipeline.execution.ray_executor:RayExecutor", "pipeline"),
    "inline": Entry("pipeline.execution.inline:InlineExecutor", "pipeline"),
}


def executor_class(name: str) -> type[Executor]:
    """The executor behind a name."""
    found: type[Executor] = load_plugin("executor", EXECUTORS, name, Executor)
    return found
