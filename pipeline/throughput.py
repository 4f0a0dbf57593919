"""How fast a set was made: by time and by host, from the statistics of its shards."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

NUM_SLICES = 24
PAUSE_TIMES, FEW_GAPS = 20.0, 4
"""How much longer than a median gap a pause is; so few gaps are no sample and have no median."""
MAX_HOSTS = 12
"""Hosts that the report lists: the slowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpeed:
    """The shards of one host."""

    host: str
    num_shards: int
    num_views: int
    views_per_s: float
    """Of one worker while it renders."""


def by_time(
    stats: Sequence[Mapping[str, Any]], *, share: float
) -> tuple[float, list[tuple[float, float]]]:
    """Rendered views a second of all workers together in equal slices of time.

    The views of a shard are spread evenly from the start of its attempt to its end.

    Args:
        stats: Statistics of shards, checked; at least one.
        share: Share of all shards that they are of, above 0 to 1.

    Returns:
        Seconds of a slice; middle of each slice in seconds after the first start, and its rate.
    """
    start = min(line["finished_at"] - line["total_s"] for line in stats)
    end = max(line["finished_at"] for line in stats)
    # Of few shards, more slices than shards would show the edges of shards.
    count = max(1, min(NUM_SLICES, len(stats)))
    width = max((end - start) / count, 1e-9)
    views = [0.0] * count
    for line in stats:
        first, last = line["finished_at"] - line["total_s"], line["finished_at"]
        length = max(last - first, 1e-9)
        for number in range(count):
            left, right = start + number * width, start + (number + 1) * width
            overlap = max(0.0, min(last, right) - max(first, left))
            views[number] += _num_rendered(line) * overlap / length
    rates = [count / width / share for count in views]
    return width, [((number + 0.5) * width, rate) for number, rate in enumerate(rates)]


def working_s(stats: Sequence[Mapping[str, Any]]) -> float:
    """Seconds in which shards were made, by the clocks of their hosts; above zero.

    A gap between the ends of two shards is a pause, in which no job ran, if it is longer than any
    attempt and, because the shards may be a sample of many, PAUSE_TIMES as long as the median gap.
    Of a pause, the time of an attempt counts.

    Args:
        stats: Statistics of shards, checked; at least one.
    """
    ends = sorted(line["finished_at"] for line in stats)
    longest_s = max(line["total_s"] for line in stats)
    gaps = [later - earlier for earlier, later in pairwise(ends)]
    typical_s = statistics.median(gaps) if len(gaps) >= FEW_GAPS else 0.0
    limit_s = max(PAUSE_TIMES * typical_s, longest_s)
    first = min(line["finished_at"] - line["total_s"] for line in stats)
    paused_s = sum(gap - longest_s for gap in gaps if gap > limit_s)
    return max(float(ends[-1] - first - paused_s), 1e-9)


def by_host(stats: Sequence[Mapping[str, Any]]) -> list[HostSpeed]:
    """Speed on each host that rendered something, the slowest first."""
    speeds = []
    for host in {line["host"] for line in stats}:
        lines = [line for line in stats if line["host"] == host]
        seconds = sum(line["render_s"] for line in lines)
        if views := sum(map(_num_rendered, lines)):
            speeds.append(
                HostSpeed(
                    host=host,
                    num_shards=len(lines),
                    num_views=views,
                    views_per_s=views / max(seconds, 1e-9),
                )
            )
    return sorted(speeds, key=lambda speed: (speed.views_per_s, speed.host))


def _num_rendered(line: Mapping[str, Any]) -> int:
    """Views that were rendered for a shard, and not taken from another set."""
    return max(int(line["num_views"]) - int(line["num_taken"]), 0)
