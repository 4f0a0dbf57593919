"""How far a set is, read from storage alone: recipe, names of manifests, and statistics."""

import json
from dataclasses import dataclass

from manifests.shard_set import ShardSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Counts and rates of a set, finished or not."""

    num_shards: int
    num_committed: int
    given_up: dict[int, list[str]]
    """Shards that failed, with the errors of their attempts."""
    is_sealed: bool
    num_views: int
    """Views in the shards whose statistics are there."""
    num_ok: int
    tar_bytes: int
    render_s: float
    """Seconds of rendering, summed over workers."""
    views_per_s: float | None
    """Over the time between the first and the last shard, all workers together."""
    left_s: float | None
    """Until the last shard, at that rate."""
    hosts: tuple[str, ...]


def overview(shards: ShardSet) -> Overview:
    """Read how far a set is."""
    store, identity = shards.store, shards.recipe.identity
    committed = shards.committed()
    names = store.list("stats")
    paths = [path for path in map(shards.layout.stats, committed) if path in names]
    stats = [json.loads(store.read(path)) for path in paths]
    given_up = {
        shard: list(json.loads(store.read(shards.layout.failed(shard)))["errors"])
        for shard in shards.given_up()
    }
    num_views = sum(each["num_views"] for each in stats)
    rate = None
    if stats:
        start = min(each["finished_at"] - each["total_s"] for each in stats)
        rate = num_views / max(max(each["finished_at"] for each in stats) - start, 1e-9)
    todo = set(range(identity.num_shards)) - {*committed, *given_up}
    left = sum(len(identity.prompts_in(shard)) for shard in todo) * identity.images_per_prompt
    return Overview(
        num_shards=identity.num_shards,
        num_committed=len(committed),
        given_up=given_up,
        is_sealed=shards.seal() is not None,
        num_views=num_views,
        num_ok=sum(each["num_ok"] for each in stats),
        tar_bytes=sum(each["tar_bytes"] for each in stats),
        render_s=sum(each["render_s"] for each in stats),
        views_per_s=rate,
        left_s=left / rate if rate else None,
        hosts=tuple(sorted({each["host"] for each in stats})),
    )
