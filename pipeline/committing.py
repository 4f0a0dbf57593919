"""The views of a shard become a tar, its statistics and its manifest, in this order."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from manifests.commit import Expected, commit_shard
from manifests.foundation.scratch import scratch_folder
from manifests.manifest import Manifest
from manifests.plan import ViewRequest
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError
from manifests.tars import View, write_tar
from pipeline.shard_report import ShardReport


def commit_views(
    shards: ShardSet,
    shard: int,
    requests: Sequence[ViewRequest],
    views: Mapping[str, View],
    report: Callable[[Manifest], ShardReport],
) -> ShardReport:
    """Commit a shard whose views are at hand.

    Args:
        requests: All views that the plan asks for, in the order of keys.
        views: The view of each request, by key.
        report: What to tell of the shard, called when its tar is stored.

    Raises:
        CorruptError: The shard was committed with other bytes.
        StoreError: Scratch or storage cannot be written.
    """
    reports: list[ShardReport] = []

    def write_stats(manifest: Manifest) -> None:
        reports.append(report(manifest))
        text = json.dumps(asdict(reports[0]), indent=2, sort_keys=True) + "\n"
        shards.store.create(shards.layout.stats(shard), text.encode())

    # In local scratch first: a tar is hashed and checked before any of it is in the store.
    with scratch_folder() as scratch:
        tar = scratch / "shard.tar"
        try:
            with tar.open("wb") as file:
                # In the order of keys, in which the views of a group are adjacent.
                in_order = (views[request.key] for request in requests)
                write_tar(file, in_order, recipe_sha256=shards.recipe_sha256, shard=shard)
        except OSError as exc:
            raise StoreError(
                f"{tar}: scratch cannot be written ({exc.strerror}); free some space or set "
                "TMPDIR, then run the same command again"
            ) from exc
        # Statistics are written before the manifest, because the manifest makes the shard exist: a
        # worker that dies in between leaves statistics without a shard, which nobody reads, and not
        # a shard without statistics.
        commit_shard(
            shards.store,
            shards.layout,
            Expected.of(shards.recipe, shard, [request.key for request in requests]),
            tar,
            before_manifest=write_stats,
        )
    return reports[0]
