"""Progress with rate and time left: a bar on a terminal, a plain line every ten seconds elsewhere.

It goes to standard error, so that standard output holds results alone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_LINE_EVERY_S = 10.0


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0.0
        return Text(f"{speed:,.1f} {self._unit}/s")


@contextmanager
def progress(
    what: str, unit: str, total: int | None, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """Show the progress of some work while the block runs.

    Args:
        what: Name of the work.
        unit: What is counted, in the plural.
        total: How many there are; None if nobody knows, and then nothing stays on a terminal.
        done: How many of them were done before.

    Yields:
        The function that the block calls with the number of units done since its last call.

    Example:
        with progress("render", "views", total=100) as advance:
            advance(10)
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(console, what, unit, total, done)
        return
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=total is None) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda advance: bar.advance(task, advance)


def _plain(
    console: Console, what: str, unit: str, total: int | None, done: int
) -> Callable[[int], None]:
    start = last = time.monotonic()
    done_before = done  # by an earlier run, so it does not count for the rate of this one

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        is_last = done == total
        if now - last < PLAIN_LINE_EVERY_S and not is_last:
            return
        last = now
        rate = (done - done_before) / max(now - start, 1e-9)
        of, left = "", ""
        if total is not None:
            of = f" of {total:,}"
            left = f", {(total - done) / rate:,.0f} s left" if rate and done < total else ""
        console.print(f"{what}: {done:,}{of} {unit}, {rate:,.1f} {unit}/s{left}")

    return advance
