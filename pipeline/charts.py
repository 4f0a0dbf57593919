"""Charts as numbers that a template draws as SVG: places in px, and what stands beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH_PX = 480
HEIGHT_PX = 220
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 58, 18, 14, 40
MAX_TICKS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value in a chart."""

    x: float
    y: float
    low: float
    """Where its interval ends, px; equal to `y` if it has none."""
    high: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Values that are joined."""

    name: str
    points: Sequence[Point]

    @property
    def path(self) -> str:
        """The points as SVG writes them: "46.0,20.1 60.0,30.2"."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Lines over two axes."""

    lines: Sequence[Line]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    x_name: str
    y_name: str
    bar_px: float = 0.0
    """Width of bars from the axis to each point; 0 for lines."""
    bottom: float = HEIGHT_PX - BOTTOM_PX
    """Where the horizontal axis is, px from the top."""


Value = tuple[float, float, float, str]
"""A value with its horizontal place, half of its interval, and a line about it."""


def chart(
    lines: Sequence[tuple[str, Sequence[Value]]],
    *,
    x_name: str,
    y_name: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    from_zero: bool = True,
    are_bars: bool = False,
) -> Chart:
    """Place values in a chart.

    Args:
        lines: Name and values of each; at least one value in all.
        x_ticks: Place and text of the marks below the chart; round numbers if not given.
        from_zero: Begin the vertical axis at 0, as lengths that are compared must.
    """
    values = [value for _, line in lines for value in line]
    xs = [x for x, *_ in values]
    first, last = min(xs), max(xs)
    if are_bars:  # room for half a bar at both ends
        step = (last - first) / max(len(xs) - 1, 1) or 1.0
        first, last = first - step / 2, last + step / 2
    elif x_ticks is not None:
        first, last = first - 0.25, last + 0.25
    highest = max(y + half for _, y, half, _ in values)
    lowest = 0.0 if from_zero else min(y - half for _, y, half, _ in values)
    y_marks = round_numbers(lowest, highest)
    bottom, top = min(lowest, y_marks[0]), max(highest, y_marks[-1])

    def across(x: float) -> float:
        return LEFT_PX + (x - first) / ((last - first) or 1) * (WIDTH_PX - LEFT_PX - RIGHT_PX)

    def down(y: float) -> float:
        height = HEIGHT_PX - TOP_PX - BOTTOM_PX
        return HEIGHT_PX - BOTTOM_PX - (y - bottom) / ((top - bottom) or 1) * height

    if x_ticks is None:
        marks = [mark for mark in round_numbers(first, last, 6) if first <= mark <= last]
        x_ticks = [(mark, _short(mark)) for mark in marks]
    # Texts of many marks would run into each other.
    every = -(-len(x_ticks) // MAX_TICKS)
    return Chart(
        lines=[
            Line(
                name=name,
                points=[
                    Point(x=across(x), y=down(y), low=down(y - half), high=down(y + half), title=of)
                    for x, y, half, of in line
                ],
            )
            for name, line in lines
        ],
        x_ticks=[(across(x), text) for x, text in x_ticks[::every]],
        y_ticks=[(down(y), _short(y)) for y in y_marks],
        x_name=x_name,
        y_name=y_name,
        bar_px=0.8 * (WIDTH_PX - LEFT_PX - RIGHT_PX) / len(xs) if are_bars else 0.0,
    )


def round_numbers(low: float, high: float, count: int = 4) -> list[float]:
    """About so many round numbers that span a range.

    Example: round_numbers(0, 17) == [0, 5, 10, 15, 20].
    """
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _short(number: float) -> str:
    """A number of a mark. Examples: 0.05, 1,500, 20k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= size:
            return f"{number / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{number:,.10g}"
