"""How much of a set is made, read from storage alone, also while its driver is dead.

Counts of shards are exact: they come from a listing. What is in them comes from the seal, or for a
set that is still open from the manifests of a sample, so that beside its listings a large set costs
no more readings than a small one. Statistics and notes on failures are advisory: one that is
missing or damaged is left out, and changes no count.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from manifests.errors import CorruptError
from manifests.manifest import Manifest
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError
from pipeline.shard_report import PHASES
from pipeline.throughput import by_host, working_s

MAX_SAMPLE = 32
"""Committed shards of which manifest and statistics are read; all of them in a smaller set."""
MAX_NOTES_READ = 20
"""Notes on failures that are read: more are not shown."""
READERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Counts and rates of a set, finished or not."""

    num_shards: int
    num_committed: int
    num_sampled: int
    """Committed shards that were read. Where they are not all, what is in shards is an estimate."""
    given_up: dict[int, list[str]]
    """The errors of the attempts of each shard that was given up; none where they were not read."""
    is_sealed: bool
    num_views: int
    """Views in the committed shards, exact."""
    num_ok: int
    tar_bytes: int
    reasons: dict[str, int]
    """Failed views in the sample by reason, the most frequent first."""
    views_per_s: float | None
    """Rate of all workers together, without pauses in which nobody made anything. None where no
    shard has statistics, or nothing was rendered."""
    last_at: float | None
    """When the last shard of the sample was finished, in seconds since 1970 by its host's clock."""
    left_s: float | None
    """Seconds until the last shard is made, at that rate; shards that were given up are no work."""
    seconds: dict[str, float]
    """Of all workers together, by what they did: `render`, beside it `encode` and `commit`, and
    `wait` for the renderer, which made another shard. An estimate, as the hours are."""
    failed_attempts: int
    """Attempts at shards of the sample that failed before the one that succeeded."""
    storage_repeats: int
    """Calls of the storage that were made again, for shards of the sample."""
    hosts: dict[str, float]
    """Views a second of one worker on each host while it renders, the slowest first."""
    on_gpu: bool
    """Whether the renderer runs on GPUs; if not, device hours are those of its CPU workers."""
    device_hours: float | None
    """Time in which workers rendered what is committed; None where no shard has statistics."""
    device_hours_left: float | None
    bytes_left: float | None
    """Estimated from what is there, as the hours are."""

    @property
    def is_exact(self) -> bool:
        """Whether nothing was estimated from a sample."""
        return self.is_sealed or self.num_sampled == self.num_committed


def overview(shards: ShardSet) -> Overview:
    """Read how much of a set is made.

    Raises:
        CorruptError: The seal or a manifest is damaged.
    """
    identity = shards.recipe.identity
    committed = shards.committed()
    notes = shards.given_up(committed)
    seal = shards.seal()
    sample = spread(committed, MAX_SAMPLE)
    with ThreadPoolExecutor(READERS, thread_name_prefix="overview") as pool:
        stats_of = pool.map(lambda shard: _stats(shards, shard), sample)
        manifests = [] if seal is not None else [*pool.map(shards.manifest, sample)]
        stats = [line for line in stats_of if line is not None]
        read = [*notes.items()][:MAX_NOTES_READ]
        errors = dict(pool.map(lambda item: (item[0], _errors_in(shards, item[1])), read))
    given_up = {shard: errors.get(shard, []) for shard in notes}

    def views_in(numbers: Iterable[int]) -> int:
        subjects = sum(len(identity.subjects_in(shard)) for shard in numbers)
        return subjects * identity.views_per_subject

    num_views = views_in(committed)
    left = identity.num_views - num_views - views_in(given_up)
    num_ok, tar_bytes = _content(manifests, num_views)
    if seal is not None:
        num_ok, tar_bytes = seal.counts["num_ok"], seal.counts["tar_bytes"]
    rate = hours = None
    num_working = 0.0
    seconds: dict[str, float] = {}
    resources = shards.recipe.settings.get("resources")
    resources = resources if isinstance(resources, Mapping) else {}
    on_gpu = resources.get("device_type") == "cuda"
    # What is left is not like shards whose views were all taken from another set, if others are.
    working = [line for line in stats if line["num_taken"] < line["num_views"]]
    share = num_views / max(sum(line["num_views"] for line in stats), 1)
    if working:
        num_working = share * sum(line["num_views"] for line in working)
        rate = num_working / working_s(working)
    if stats:
        seconds = {phase: share * sum(line[f"{phase}_s"] for line in stats) for phase in PHASES}
        hours = seconds["render"] * (resources.get("gpus", 1) if on_gpu else 1) / 3600
    return Overview(
        num_shards=identity.num_shards,
        num_committed=len(committed),
        num_sampled=len(sample),
        given_up=given_up,
        is_sealed=seal is not None,
        num_views=num_views,
        num_ok=num_ok,
        tar_bytes=tar_bytes,
        reasons=_reasons(manifests),
        views_per_s=rate,
        last_at=max((line["finished_at"] for line in stats), default=None),
        left_s=left / rate if rate else None,
        seconds=seconds,
        failed_attempts=sum(len(line["errors"]) for line in stats),
        storage_repeats=sum(line["storage_repeats"] for line in stats),
        hosts={speed.host: speed.views_per_s for speed in by_host(stats)},
        on_gpu=on_gpu,
        device_hours=hours,
        device_hours_left=left * hours / num_working if hours is not None and working else None,
        bytes_left=left * tar_bytes / num_views if num_views else None,
    )


def spread(numbers: Collection[int], count: int) -> list[int]:
    """At most so many of the numbers, at equal distances, the first and the last among them."""
    last = len(numbers) - 1
    if last < count:
        return [*numbers]
    places = {index * last // max(count - 1, 1) for index in range(count)}
    return [number for place, number in enumerate(numbers) if place in places]


def _content(manifests: Sequence[Manifest], num_views: int) -> tuple[int, int]:
    """Good views and bytes of tars among so many views, by those in the manifests."""
    counted = sum(len(manifest.rows) for manifest in manifests)
    share = num_views / max(counted, 1)
    num_ok = sum(manifest.num_ok for manifest in manifests)
    return round(num_ok * share), round(share * sum(m.tar_bytes for m in manifests))


def _reasons(manifests: Sequence[Manifest]) -> dict[str, int]:
    failed = (row.reason for m in manifests for row in m.rows if not row.is_ok)
    return dict(Counter(failed).most_common())


def duration(hours: float, price: float | None = None) -> str:
    """Hours of work, and their cost if an hour has a price.

    Examples: `12.34 hours`, `12.34 hours (cost 30.85)`, `7.2 minutes`, `12 seconds`.
    """
    seconds = 3600 * hours
    if hours >= 0.1:
        text = f"{hours:,.2f} hours"
    elif seconds >= 60:
        text = f"{seconds / 60:.2g} minutes"
    else:
        text = f"{seconds:.0f} seconds" if seconds >= 1.5 else "less than two seconds"
    return text if price is None else f"{text} (cost {hours * price:,.2f})"


_ABSENT: Mapping[str, Any] = {
    **{f"{phase}_s": 0.0 for phase in PHASES},
    "storage_repeats": 0,
    "num_taken": 0,
    "errors": [],
}
"""What other programs may leave out of their statistics."""
_MAX_STATISTIC = 1e12
"""Greater than any count of views and any time in seconds: a larger number is not believed."""


def statistics_of(shards: ShardSet, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The statistics of some shards; those that are missing or damaged are left out."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="statistics") as pool:
        stats = pool.map(lambda shard: _stats(shards, shard), numbers)
        return [line for line in stats if line is not None]


def _stats(shards: ShardSet, shard: int) -> dict[str, Any] | None:
    """The statistics of a shard, or None if they are missing or damaged."""
    document = _read_json(shards, shards.layout.stats(shard))
    if not isinstance(document, dict):
        return None
    stats: dict[str, Any] = {**_ABSENT, **document}
    for name in ("num_views", "finished_at", "total_s", *_ABSENT.keys() - {"errors"}):
        number = stats.get(name)
        if not isinstance(number, int | float) or not 0 <= number < _MAX_STATISTIC:
            return None
    if not isinstance(stats["errors"], list) or not isinstance(stats.get("host"), str):
        return None
    return stats


def _errors_in(shards: ShardSet, path: str) -> list[str]:
    """The errors in a note on a shard that was given up; a line about the note if it has none."""
    document = _read_json(shards, path)
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list) or not errors:
        return [f"{path} does not say why"]
    return [str(error) for error in errors]


def _read_json(shards: ShardSet, path: str) -> Any:
    try:
        return json.loads(shards.store.read(path))
    except (FileNotFoundError, CorruptError, StoreError, ValueError, RecursionError):
        return None
