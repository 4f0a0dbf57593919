"""A function of many items in some threads, with a few of its results ahead of the caller."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD_PER_THREAD = 4
"""Items that are begun, or wait for a thread, before their results are asked for."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, num_threads: int, name: str
) -> Generator[_Result, None, None]:
    """The results in the order of the items, of which there may be millions.

    `Executor.map` begins with all items at once: those that wait take 2 kB each, and so do the
    results that nobody has taken yet. After an error, or when the caller stops, no item is begun.

    Args:
        name: Of the threads.
    """
    pending: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix=name) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) == AHEAD_PER_THREAD * num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
