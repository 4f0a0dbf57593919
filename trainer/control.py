"""Small messages between ranks: what they have to agree on, beside the gradients."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from manifests.foundation.messages import one_line
from trainer.distributed import TIMEOUT_S, rank, world_size
from trainer.errors import TrainerError

Item = TypeVar("Item")

MEETING_S = 1.0
"""Between two messages of ranks that wait for each other."""


class ControlChannel:
    """Collectives over a gloo group, which does not wait for the device as NCCL does.

    Args:
        timeout_s: A rank that waits longer than this for another one ends with an error.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self.rank = rank()
        """Number of this process, 0 without a process group."""
        is_gloo = dist.is_initialized() and dist.get_backend() == "gloo"
        self._group: Any = None
        if dist.is_initialized() and not is_gloo:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))

    def sum(self, *counts: int) -> list[int]:
        """Sum of each count over the ranks. Raises TrainerError if a rank is gone."""
        if world_size() == 1:
            return list(counts)
        values = torch.tensor(counts, dtype=torch.int64)
        with collective_errors():
            dist.all_reduce(values, group=self._group)
        return [int(value) for value in values]

    def barrier(self) -> None:
        """Wait until every rank has come here. Raises TrainerError if a rank is gone."""
        self.sum(0)  # of one value: gloo returns at once from a sum of none

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """The items of all ranks, in the order of ranks. Raises TrainerError if a rank is gone."""
        if world_size() == 1:
            return list(items)
        gathered: list[Any] = [None] * world_size()
        with collective_errors():
            dist.all_gather_object(gathered, list(items), group=self._group)
        return [item for part in gathered for item in part]


@contextmanager
def at_own_pace(*, timeout_s: float) -> Iterator[None]:
    """A block that a rank may leave hours after the others, which wait for it.

    Meanwhile a thread of every rank tells the others that it is there. No collective is called in
    the block.

    Args:
        timeout_s: A rank that is silent for longer than this ends the others with an error.

    Raises:
        TrainerError: Another rank is gone, was silent, or has left its block with an error.
    """
    if world_size() == 1:
        yield
        return
    control = ControlChannel(timeout_s=timeout_s)
    own, has_left = [0, 0], Event()  # whether this rank is done, and whether it has failed
    outcome: list[Exception | int] = []

    def meet() -> None:
        num_done = num_failed = 0
        try:
            while num_done + num_failed < world_size() and not num_failed:
                num_done, num_failed = control.sum(*own)
                has_left.wait(MEETING_S)
        except Exception as exc:  # is raised by the thread that waits for this one
            outcome.append(exc)
        else:
            outcome.append(num_failed)

    thread = Thread(target=meet, name="meet", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        own[1] = 1
        raise
    else:
        own[0] = 1
    finally:
        has_left.set()
        thread.join()
    (ended,) = outcome
    if isinstance(ended, Exception):
        raise ended
    if ended:
        raise TrainerError(f"rank {rank()}: another rank has failed; look at its output")


@contextmanager
def collective_errors() -> Iterator[None]:
    """Turn a failed collective into a one-line TrainerError; other errors pass unchanged."""
    try:
        yield
    except dist.DistBackendError as exc:
        raise _lost_rank(exc) from exc
    except RuntimeError as exc:
        if world_size() == 1 or not _FROM_GLOO.search(str(exc)):
            raise
        raise _lost_rank(exc) from exc


# gloo raises plain RuntimeErrors, which only their texts tell from errors of other code.
_FROM_GLOO = re.compile("gloo|Connection|[Tt]imed out|closed by peer")


def _lost_rank(exc: Exception) -> TrainerError:
    # The place in gloo's own code comes first, and advice follows its first sentence.
    reason = re.sub(r"^\[\S+\] ", "", one_line(exc)).partition(". ")[0]
    return TrainerError(
        f"rank {rank()}: another rank is gone or was silent for longer than run.timeout_s; look at "
        f"its output and run the same command again ({reason})"
    )
