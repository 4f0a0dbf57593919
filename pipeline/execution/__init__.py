"""Executors hand shards to workers. This folder holds only executors.

Laws, tested for every entry of the table (tests/conformance):

1. Every shard is reported exactly once, as made or as given up.
2. A failure is retried as `pipeline.retrying` says and never swallowed.
3. An error that is not a shard's own (any `SynthError` but `ShardError`) ends the job.
4. The files that come out do not depend on the executor, the number of workers or the order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from manifests.foundation.plugins import Entry, load_plugin
from manifests.foundation.settings import Table
from pipeline.job import Job
from pipeline.retrying import ShardFailure
from pipeline.shard_report import ShardReport, Underway


class Executor(Protocol):
    """Makes shards on some workers. The laws are above."""

    Config: type[Table]
    """Keys of the recipe's table [execution]: `executor`, and those of this executor."""

    def __init__(self, config: Any) -> None:
        """Keep an instance of Config; start nothing yet."""

    def run(
        self, shards: Sequence[int], job: Job
    ) -> Iterator[ShardReport | ShardFailure | Underway]:
        """Make the shards, in any order, and yield the outcome of each as soon as it is known.

        An executor that knows how far the other shards are yields an `Underway` every few seconds.

        Raises:
            SynthError: An error that is not one shard's own; it ends the job.
        """


EXECUTORS: Mapping[str, Entry] = {
    "ray": Entry("pipeline.execution.ray_executor:RayExecutor", "pipeline"),
    "inline": Entry("pipeline.execution.inline:InlineExecutor", "pipeline"),
}


def executor_class(name: str) -> type[Executor]:
    """The executor behind a name."""
    plugin: type[Executor] = load_plugin("executor", EXECUTORS, name, Executor)
    return plugin
