"""Tables of numbers that become lines where the terminal is too narrow for them."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

FOLDED = 16
"""Characters that a column which may be folded is left at least."""


class FittingTable(Table):
    """A table that cuts no word: where one would not fit, each row is a line.

    Columns that are justified to the right are values and stand in a line after their headers; the
    others are names. Those with overflow "fold" may be narrower than their longest word.

    Example of a line: "knn, run: top-1 % 61.0, 95 % interval 58.9-63.1".
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = [_width(column, console, options, least=True) for column in self.columns]
        natural = [_width(column, console, options, least=False) for column in self.columns]
        spare = options.max_width - 3 * len(self.columns) - 1 - sum(least)  # after all borders
        if spare < 0:
            yield from self._lines(console)
            return
        # Given here, because rich takes from the widest column first, whatever word is in it.
        for column, small, large in zip(self.columns, least, natural, strict=True):
            column.width = small + min(spare, large - small)
            spare -= column.width - small
        yield from super().__rich_console__(console, options)

    def _lines(self, console: Console) -> Iterator[Text]:
        plain = [[_plain(cell, console) for cell in column.cells] for column in self.columns]
        headers = [_plain(column.header, console) for column in self.columns]
        if self.title:
            yield Text(_plain(self.title, console), style="table.title")
        for cells in zip(*plain, strict=True):
            columns = [*zip(self.columns, headers, cells, strict=True)]
            names = [cell for column, _, cell in columns if column.justify != "right"]
            values = [
                f"{header} {cell}"
                for column, header, cell in columns
                if column.justify == "right" and cell
            ]
            yield Text(f"{', '.join(names)}: {', '.join(values)}")
        if self.caption:
            yield Text(_plain(self.caption, console), style="table.caption")


def _plain(cell: Any, console: Console) -> str:
    text = cell if isinstance(cell, Text) else console.render_str(str(cell))
    return " ".join(text.plain.split())


def _width(column: Column, console: Console, options: ConsoleOptions, *, least: bool) -> int:
    """Of the longest word in a column, or of its longest line."""
    boundless = options.update(width=10**6)
    measured = [console.measure(cell, options=boundless) for cell in (column.header, *column.cells)]
    if not least:
        return max(measurement.maximum for measurement in measured)
    longest = max(measurement.minimum for measurement in measured)
    return min(longest, FOLDED) if column.overflow == "fold" else longest
