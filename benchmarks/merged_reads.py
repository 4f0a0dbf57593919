"""Would it pay to join reads that lie near each other, or to read fewer views? Counted, not timed.

    python -m benchmarks.merged_reads [--latency-ms 30] [--bandwidth-mb 100]

The order is the trainer's own, over sets of 100 groups a shard; a group is 10 views of the pictures
of `loader_speed`. A rank takes 43 groups of a step, a machine of 8 ranks 344, and a loader process
that would hold 16 steps ahead 688. A request costs the latency, and a byte its time on the line: so
two reads are joined where the gap between them takes less time than another request.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.loader_speed import VIEWS, make_set
from manifests.index import index_of
from manifests.shard_set import ShardSet
from trainer.data.draws import generator
from trainer.data.order import GroupOrder

GROUPS_PER_SHARD, BATCH_GROUPS = 100, 1376
MOST_BYTES = 64 << 20
"""Of a joined read."""
STEPS = 20
TAKERS = {"rank": 43, "machine of 8 ranks": 344, "16 steps of a rank": 688}


def joined(
    places: Sequence[tuple[int, int, int]], *, gap_bytes: float, most_bytes: int = MOST_BYTES
) -> list[tuple[int, int, int]]:
    """Reads that take the place of others.

    Args:
        places: Object, first byte and length of each read.
        gap_bytes: Reads of one object are joined over a gap of at most so many bytes.
        most_bytes: Length of a joined read.
    """
    reads: list[tuple[int, int, int]] = []
    for which, first, length in sorted(places):
        if reads:
            last, start, size = reads[-1]
            end = max(start + size, first + length)
            if last == which and first - start - size <= gap_bytes and end - start <= most_bytes:
                reads[-1] = (which, start, end - start)
                continue
        reads.append((which, first, length))
    return reads


def order_of(shards: int, lengths: Sequence[int], gap_bytes: float) -> dict[str, Any]:
    """Requests of one taker a step, before and after reads are joined."""
    starts = np.cumsum([0, *lengths])
    num_groups = shards * GROUPS_PER_SHARD
    order = GroupOrder(num_groups, seed=0, batch_groups=min(BATCH_GROUPS, num_groups))
    row: dict[str, Any] = {"shards": shards}
    for taker, count in TAKERS.items():
        before = after = num_bytes = joined_bytes = 0
        for step in range(STEPS):
            entries = [turn.entry for turn in order.batch(step)][:count]
            places = [
                (shard, int(starts[place]), lengths[place])
                for shard, place in (divmod(entry, GROUPS_PER_SHARD) for entry in entries)
            ]
            reads = joined(places, gap_bytes=gap_bytes)
            before, after = before + len(places), after + len(reads)
            num_bytes += sum(length for _, _, length in places)
            joined_bytes += sum(length for _, _, length in reads)
        row[taker] = {
            "requests": before / STEPS,
            "joined": after / STEPS,
            "mb": round(num_bytes / STEPS / 1e6, 2),
            "joined_mb": round(joined_bytes / STEPS / 1e6, 2),
        }
    return row


def views_of(taken: int, sizes: list[list[int]]) -> dict[str, float]:
    """Part of the bytes of a group that is taken, and that lies from the first view to the last.

    Args:
        taken: Views that a step takes of each group.
        sizes: Bytes in the tar of each view of each group.
    """
    exact = span = whole = 0
    for number, group in enumerate(sizes * 50):
        chosen = sorted(generator("views", number).permutation(len(group))[:taken].tolist())
        exact += sum(group[view] for view in chosen)
        span += sum(group[chosen[0] : chosen[-1] + 1])
        whole += sum(group)
    return {
        "views": taken,
        "taken": round(exact / whole, 3),
        "first_to_last": round(span / whole, 3),
    }


def view_sizes(real: ShardSet) -> list[list[int]]:
    """Bytes in the tar of each view of each group of a shard."""
    rows = real.manifest(0).rows
    ends = [row.offset for row in rows[1:]]
    sizes = [end - row.offset for row, end in zip(rows, ends, strict=False)]
    sizes.append(sizes[-1])
    return [sizes[first : first + VIEWS] for first in range(0, len(sizes), VIEWS)]


def counts(real: ShardSet, *, latency_s: float, bytes_per_s: float) -> dict[str, Any]:
    """All counts, for a set like the one given."""
    lengths = index_of(real.manifest(0))["length"].to_pylist()
    lengths = lengths * (GROUPS_PER_SHARD // len(lengths))
    gap_bytes = latency_s * bytes_per_s
    sizes = view_sizes(real)
    return {
        "gap_bytes": int(gap_bytes),
        "group_bytes": int(np.mean(lengths)),
        "sets": [order_of(shards, lengths, gap_bytes) for shards in (10, 100, 1000, 10**5)],
        "views_of_10": [views_of(taken, sizes) for taken in (1, 2, 6)],
    }


@click.command(help=__doc__)
@click.option("--latency-ms", default=30.0, show_default=True)
@click.option("--bandwidth-mb", default=100.0, show_default=True, help="A second.")
def main(latency_ms: float, bandwidth_mb: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        real = make_set(Path(folder) / "set")
        result = counts(real, latency_s=latency_ms / 1000, bytes_per_s=bandwidth_mb * 1e6)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
