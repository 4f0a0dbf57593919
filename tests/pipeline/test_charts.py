"""Charts put numbers where they belong."""

import math

import pytest

from pipeline.charts import BOTTOM_PX, HEIGHT_PX, chart, round_numbers
from pipeline.throughput import by_host, by_time, working_s


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [
        (0, 17, [0, 5, 10, 15, 20]),
        (0, 0.04, [0, 0.01, 0.02, 0.03, 0.04]),
        (3.2, 4.4, [3, 3.5, 4, 4.5]),
        (0, 0, [0, 0.5, 1]),
        (5, 5, [4, 6, 8, 10]),
    ],
)
def test_marks_are_round_and_span_the_range(low: float, high: float, numbers: list[float]) -> None:
    marks = round_numbers(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert all(math.isfinite(mark) for mark in marks)
    if low < high:
        assert marks == pytest.approx(numbers)


def test_lengths_begin_at_zero_and_grow_with_their_values() -> None:
    drawn = chart([("a", [(0, 2, 0, ""), (1, 4, 1, "")])], x_name="x", y_name="y")
    first, second = drawn.lines[0].points
    bottom = HEIGHT_PX - BOTTOM_PX
    assert (bottom - second.y) == pytest.approx(2 * (bottom - first.y))
    assert second.low - second.y == pytest.approx(second.y - second.high)
    assert first.x < second.x


def test_one_value_is_a_chart() -> None:
    drawn = chart([("a", [(0, 0, 0, "")])], x_name="x", y_name="y", are_bars=True)
    assert all(math.isfinite(place) for place in (drawn.lines[0].points[0].x, drawn.bar_px))


def line(host: str, start: float, end: float, views: int, *, taken: int = 0) -> dict[str, object]:
    return {
        "host": host,
        "finished_at": end,
        "total_s": end - start,
        "render_s": (end - start) / 2,
        "num_views": views + taken,
        "num_taken": taken,
    }


@pytest.mark.parametrize(("num_shards", "sampled_of"), [(2, 1), (6, 1), (40, 100)])
def test_a_pause_is_no_work(num_shards: int, sampled_of: int) -> None:
    """Two workers of 10 s a shard; of many shards every hundredth is looked at."""
    busy = [line("a", 5 * n, 5 * n + 10, 50) for n in range(0, num_shards * sampled_of, sampled_of)]
    end = max(float(str(one["finished_at"])) for one in busy)
    late = [
        line("a", end + 90_000 + 5 * n, end + 90_010 + 5 * n, 50)
        for n in range(0, num_shards * sampled_of, sampled_of)
    ]
    once, twice = working_s(busy), working_s([*busy, *late])
    assert once == end
    assert twice == pytest.approx(2 * once, rel=0.25, abs=10)


def test_views_are_spread_over_the_time_of_their_shard() -> None:
    stats = [line("a", 100, 110, 50), line("b", 100, 120, 100)]
    width, rates = by_time(stats, share=1.0)
    assert width == 10
    assert rates == [(5.0, pytest.approx(10.0)), (15.0, pytest.approx(5.0))]
    assert by_time(stats, share=0.5)[1][0][1] == pytest.approx(20.0)


def test_the_slowest_host_comes_first() -> None:
    stats = [line("a", 0, 10, 100), line("b", 0, 10, 50), line("a", 0, 20, 200)]
    hosts = by_host(stats)
    assert [(speed.host, speed.num_shards, speed.views_per_s) for speed in hosts] == [
        ("b", 1, 10.0),
        ("a", 2, 20.0),
    ]


def test_views_that_were_taken_are_not_counted_as_rendered() -> None:
    stats = [line("a", 0, 10, 50, taken=1000), line("copies", 0, 10, 0, taken=10)]
    assert [(speed.host, speed.num_views) for speed in by_host(stats)] == [("a", 50)]
    _, rates = by_time(stats, share=1.0)
    assert sum(rate for _, rate in rates) / len(rates) == pytest.approx(5.0)
