"""How much of a set is made, read from storage alone.

Counts come from the seal, or from the manifests of a set that is still open; rates come from the
statistics of the shards. Statistics and notes on failures are advisory: one that is missing or
damaged is left out, and changes no count.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manifests.errors import CorruptError
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Counts and rates of a set, finished or not."""

    num_shards: int
    num_committed: int
    given_up: dict[int, list[str]]
    """The errors of the attempts of each shard that was given up."""
    is_sealed: bool
    num_views: int
    """Views in the committed shards."""
    num_ok: int
    tar_bytes: int
    views_per_s: float | None
    """Rate of all workers together, from the start of the first shard to the end of the last one,
    pauses included. None where no shard has statistics."""
    left_s: float | None
    """Seconds until the last shard is made, at that rate; shards that were given up are no work."""
    hosts: tuple[str, ...]
    on_gpu: bool
    """Whether the renderer runs on GPUs; if not, device hours are those of its CPU workers."""
    device_hours: float | None
    """Time in which workers rendered what is committed; None where no shard has statistics."""
    device_hours_left: float | None
    bytes_left: float | None
    """Estimated from what is there, as the hours are."""


def overview(shards: ShardSet) -> Overview:
    """Read how much of a set is made.

    Raises:
        CorruptError: The seal or a manifest is damaged.
    """
    identity = shards.recipe.identity
    committed = shards.committed()
    given_up = {shard: _errors_in(shards, path) for shard, path in shards.given_up().items()}
    num_views, num_ok, tar_bytes = _counts(shards, committed)
    stats = [line for line in (_stats(shards, shard) for shard in committed) if line is not None]
    rate = None
    if stats:
        # By the clocks of the hosts. They may disagree, so the time is kept above zero.
        first = min(line["finished_at"] - line["total_s"] for line in stats)
        seconds = max(line["finished_at"] for line in stats) - first
        rate = sum(line["num_views"] for line in stats) / max(seconds, 1e-9)
    done = {*committed, *given_up}
    left = sum(
        len(identity.subjects_in(shard)) * identity.views_per_subject
        for shard in range(identity.num_shards)
        if shard not in done
    )
    made = sum(line["num_views"] for line in stats)
    resources = shards.recipe.settings.get("resources")
    resources = resources if isinstance(resources, Mapping) else {}
    on_gpu = resources.get("device_type") == "cuda"
    num_devices = resources.get("gpus", 1) if on_gpu else 1
    hours = num_devices * sum(line["render_s"] for line in stats) / 3600 if stats else None
    return Overview(
        num_shards=identity.num_shards,
        num_committed=len(committed),
        given_up=given_up,
        is_sealed=shards.seal() is not None,
        num_views=num_views,
        num_ok=num_ok,
        tar_bytes=tar_bytes,
        views_per_s=rate,
        left_s=left / rate if rate else None,
        hosts=tuple(sorted({line["host"] for line in stats})),
        on_gpu=on_gpu,
        device_hours=hours,
        device_hours_left=None if hours is None else left * hours / max(made, 1),
        bytes_left=left * tar_bytes / num_views if num_views else None,
    )


def duration(hours: float, price: float | None = None) -> str:
    """Hours of work, and their cost if an hour has a price.

    Examples: `12.34 hours`, `12.34 hours (cost 30.85)`, `7.2 minutes`.
    """
    text = f"{hours:,.2f} hours" if hours >= 0.1 else f"{60 * hours:.2g} minutes"
    return text if price is None else f"{text} (cost {hours * price:,.2f})"


def _counts(shards: ShardSet, committed: list[int]) -> tuple[int, int, int]:
    """Views, good views and bytes of tars in the committed shards."""
    if (seal := shards.seal()) is not None:
        counts = seal.counts
        return counts["num_views"], counts["num_ok"], counts["tar_bytes"]
    num_views = num_ok = tar_bytes = 0
    for shard in committed:
        manifest = shards.manifest(shard)
        num_views += len(manifest.rows)
        num_ok += manifest.num_ok
        tar_bytes += manifest.tar_bytes
    return num_views, num_ok, tar_bytes


_MAX_STATISTIC = 1e12
"""Greater than any count of views and any time in seconds: a larger number is not believed."""


def _stats(shards: ShardSet, shard: int) -> dict[str, Any] | None:
    """The statistics of a shard, or None if they are missing or damaged."""
    document = _read_json(shards, shards.layout.stats(shard))
    if not isinstance(document, dict):
        return None
    numbers = [document.get(name) for name in ("num_views", "finished_at", "total_s", "render_s")]
    for number in numbers:
        if not isinstance(number, int | float) or not 0 <= number < _MAX_STATISTIC:
            return None
    return document if isinstance(document.get("host"), str) else None


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
