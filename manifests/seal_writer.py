"""Seal a set: card and counts for stock readers, then `dataset.json`, last."""

import json

from manifests.canonical import sha256_hex
from manifests.card import dataset_card
from manifests.errors import ContractError, CorruptError
from manifests.layout import CARD, RECIPE, SEAL, SIZES, shard_number
from manifests.manifest import parse_manifest
from manifests.seal import Seal, ShardSummary
from manifests.shard_set import ShardSet
from manifests.storage import Store


def seal_set(shards: ShardSet, *, incomplete: bool = False) -> Seal:
    """Write the seal; a set that is sealed already is left as it is.

    Args:
        incomplete: Seal although shards are missing; the seal names them.

    Raises:
        ContractError: Shards are missing and `incomplete` is not set.
    """
    if (sealed := shards.seal()) is not None:
        return sealed
    store, layout = shards.store, shards.layout
    committed = shards.committed()
    missing = sorted(set(range(layout.num_shards)) - set(committed))
    if missing and not incomplete:
        raise ContractError(
            f"{store.url}: {len(missing)} of {layout.num_shards} shards are missing, the first is "
            f"{missing[0]}; run `synth generate` again, or seal with --seal-incomplete"
        )
    for path in store.list("data"):
        # Stock readers take every tar that they find: one that no manifest names must go.
        if shard_number(path) in missing:
            store.delete(path)
    summaries = [_summarize(shards, shard) for shard in committed]
    sizes = {layout.tar(each.shard).partition("/")[2]: each.num_ok for each in summaries}
    _put(store, SIZES, f"{json.dumps(sizes, indent=2)}\n".encode())
    unsigned = Seal(recipe_sha256=shards.recipe_sha256, shards=summaries, missing=missing, files={})
    _put(store, CARD, dataset_card(shards.recipe.identity, unsigned).encode())
    for folder in ("", "data", "manifests", "prompts", "stats", "failed"):
        store.sweep(folder)
    files = [RECIPE, CARD, SIZES, *layout.prompt_files()]
    files += [*store.list("stats"), *store.list("failed")]
    seal = Seal(
        recipe_sha256=shards.recipe_sha256,
        shards=summaries,
        missing=missing,
        files={path: sha256_hex(store.read(path)) for path in files},
    )
    store.create(SEAL, seal.to_bytes())
    written = shards.seal()
    assert written is not None
    return written


def _put(store: Store, path: str, content: bytes) -> None:
    """Write a file, also over that of a sealing which was killed when fewer shards were there."""
    if not store.create(path, content) and store.read(path) != content:
        store.replace(path, content)


def _summarize(shards: ShardSet, shard: int) -> ShardSummary:
    path = shards.layout.manifest(shard)
    data = shards.store.read(path)
    manifest = parse_manifest(data, where=shards.store.at(path))
    tar = shards.layout.tar(shard)
    if shards.store.list("data").get(tar) != manifest.tar_bytes:
        raise CorruptError(
            f"{shards.store.at(tar)}: is not {manifest.tar_bytes} bytes as its manifest says; "
            "run `synth verify`"
        )
    return ShardSummary(
        shard=shard,
        tar_sha256=manifest.tar_sha256,
        tar_bytes=manifest.tar_bytes,
        manifest_sha256=sha256_hex(data),
        num_views=len(manifest.rows),
        num_ok=manifest.num_ok,
    )
