"""Progress with rate and time left: a line on a terminal, a plain line every ten seconds elsewhere.

It goes to standard error, so that standard output holds results alone. The line has room on a
narrow terminal, where its bar goes first, and says a rate only once there is one.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.filesize import decimal
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from manifests.foundation.messages import printable

PLAIN_LINE_EVERY_S = 10.0
WINDOW_S = 60.0
"""The rate is that of the last minute, so that it follows what changes and does not jump."""
SHORTEST_S = 1.0
"""In less than a second nothing is measured: a rate would be a number without a sense."""
MIN_BAR = 10
"""Columns of the smallest bar that is drawn, and of the room that a wider one leaves."""
MAX_BAR = 40


class Advance(Protocol):
    """What the block calls when some units are done."""

    def __call__(self, count: int, *, share: float | None = None, note: str = "") -> None:
        """Count units.

        Args:
            count: Units since the last call; negative if some have to be done again.
            share: Of the whole work that is done, 0 to 1, where nobody knows how many units it has.
            note: Shown behind the rate until the next one. Example: `loss 3.21`.
        """


class Pace:
    """What is done, how fast, and what is left.

    Args:
        unit: What is counted, in the plural; `bytes` are shown as kB, MB and so on.
        total: How many there are; None if nobody knows.
        done: How many of them were done before.
    """

    def __init__(self, unit: str, total: int | None, done: int = 0, *, now: float) -> None:
        self._unit, self.total, self.done = unit, total, done
        self._start = now
        self._points = deque([(now, done)])
        self._share: float | None = None
        self._note = ""

    def advance(self, count: int, *, share: float | None, note: str, now: float) -> None:
        """See Advance."""
        self.done += count
        self._share = self._share if share is None else share
        self._note = note or self._note
        self._points.append((now, self.done))
        while len(self._points) > 2 and self._points[1][0] < now - WINDOW_S:
            self._points.popleft()

    @property
    def share(self) -> float | None:
        """Of the work that is done, 0 to 1; None if nobody knows."""
        if self.total is None:
            return self._share
        return self.done / self.total if self.total else 1.0

    @property
    def is_finished(self) -> bool:
        return self.total is not None and self.done >= self.total

    def rate(self, now: float) -> float | None:
        """Units per second of the last minute; None while it is not known."""
        start, before = self._points[0]
        if self.is_finished:  # nothing is added any more, so it would sink
            now = self._points[-1][0]
        elapsed = now - start
        return (self.done - before) / elapsed if elapsed >= SHORTEST_S else None

    def parts(self, now: float) -> list[str]:
        """How much, how fast, how long, and the note: whichever of them are known."""
        rate, elapsed = self.rate(now), now - self._start
        left_s = None
        if not self.is_finished and self.total is not None and rate:
            left_s = (self.total - self.done) / rate
        elif self.total is None and self._share and elapsed >= SHORTEST_S:
            left_s = elapsed / self._share - elapsed
        return [
            self._amount(),
            f"{self._shown_rate(rate)}/s" if rate and rate > 0 else "",
            f"{clock(left_s)} left" if left_s is not None and left_s >= 0 else "",
            self._note,
        ]

    def _amount(self) -> str:
        if self._unit == "bytes":
            total = "" if self.total is None else f" of {decimal(self.total)}"
            return f"{decimal(self.done)}{total}"
        total = "" if self.total is None else f" of {self.total:,}"
        share = f", {self._share:.0%}" if self.total is None and self._share is not None else ""
        return f"{self.done:,}{total} {self._unit}{share}"

    def _shown_rate(self, rate: float) -> str:
        if self._unit == "bytes":
            return decimal(int(rate))
        return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def clock(seconds: float) -> str:
    """Example: `0:07`, `12:30`, `3:05:00`, `41 days`."""
    whole = round(seconds)
    if whole >= 3 * 86_400:
        return f"{whole / 86_400:,.0f} days"
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


@contextmanager
def progress(what: str, unit: str, total: int | None, done: int = 0) -> Iterator[Advance]:
    """Show the progress of some work while the block runs.

    Args:
        what: Name of the work.
        unit: What is counted, in the plural; `bytes` are shown as kB, MB and so on.
        total: How many there are; None if nobody knows. Then nothing stays on a terminal, unless
            the block says which share is done.
        done: How many of them were done before.

    Yields:
        The function that the block calls with the number of units done since its last call.

    Example:
        with progress("render", "views", total=100) as advance:
            advance(10)
    """
    console = Console(stderr=True)
    pace = Pace(unit, total, done, now=time.monotonic())
    if not console.is_terminal:
        yield _plain(console, what, pace)
        return

    def advance(count: int, *, share: float | None = None, note: str = "") -> None:
        pace.advance(count, share=share, note=note, now=time.monotonic())

    line = _Line(what, pace)
    with Live(line, console=console, refresh_per_second=5) as live:
        yield advance
        live.transient = pace.share is None  # a number that nobody compares is no result


class _Line:
    """One line of at most the width of the terminal."""

    def __init__(self, what: str, pace: Pace) -> None:
        self._what, self._pace = what, pace

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        amount, rate, left, note = self._pace.parts(time.monotonic())
        # What matters most comes first; what has no room is left out, and at last the end is cut.
        shown = [part for part in (amount, left, rate, note) if part]
        while len(shown) > 1 and cell_len(self._text(shown)) > width:
            shown.pop()
        in_order = [part for part in (amount, rate, left, note) if part in shown]
        text = Text(printable(self._text(in_order)), no_wrap=True, overflow="ellipsis")
        room = width - cell_len(text.plain) - 1
        share = self._pace.share
        if room < MIN_BAR or share is None:
            yield text
            return
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row(text, ProgressBar(total=1, completed=share, width=min(room - 1, MAX_BAR)))
        yield line

    def _text(self, parts: list[str]) -> str:
        return f"{self._what}: {', '.join(parts)}"


def _plain(console: Console, what: str, pace: Pace) -> Advance:
    last = time.monotonic()

    def advance(count: int, *, share: float | None = None, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        pace.advance(count, share=share, note=note, now=now)
        if now - last < PLAIN_LINE_EVERY_S and not pace.is_finished:
            return
        last = now
        parts = ", ".join(part for part in pace.parts(now) if part)
        # Of any width: such lines are read from logs.
        console.print(printable(f"{what}: {parts}"), markup=False, highlight=False, soft_wrap=True)

    return advance
