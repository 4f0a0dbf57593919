"""Commit of a shard: the tar first, then the manifest, each created only if absent.

Tar and manifest depend on the recipe alone, so losing a race, winning it and not hearing of it
all end in the same two files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from manifests.canonical import hash_file, hash_stream
from manifests.errors import CorruptError
from manifests.layout import Layout
from manifests.manifest import Manifest, parse_manifest
from manifests.storage import Store
from manifests.tars import walk_tar


def commit_shard(
    store: Store,
    layout: Layout,
    *,
    tar: Path,
    recipe_sha256: str,
    shard: int,
    keys: Sequence[str],
) -> Manifest:
    """Make a shard exist, from a tar in local scratch.

    Args:
        keys: Keys that the plan expects, in order.

    Returns:
        The committed manifest; of another writer's equal shard if it was faster.

    Raises:
        CorruptError: The tar is not what the plan expects, or the shard was committed with
            other bytes, which means that rendering is not deterministic.
    """
    with tar.open("rb") as file:
        mine = _describe(file, hash_file(tar), tar.stat().st_size, where=str(tar))
    _require(mine, recipe_sha256, shard, keys, where=str(tar))

    manifest = mine
    while not store.create(layout.tar(shard), tar):
        if (theirs := _adopt(store, layout, recipe_sha256, shard, keys)) is not None:
            manifest = theirs
            break
    if store.create(layout.manifest(shard), manifest.to_bytes()):
        return manifest
    # Somebody else was first, or we were and did not hear of it: read back and compare.
    where = layout.manifest(shard)
    committed = parse_manifest(store.read(where), where=store.at(where))
    if committed.tar_sha256 != manifest.tar_sha256:
        raise CorruptError(
            f"{store.at(where)}: commits another tar than the one that is there; "
            "two writers rendered different pixels: run `synth verify`"
        )
    return committed


def _adopt(
    store: Store, layout: Layout, recipe_sha256: str, shard: int, keys: Sequence[str]
) -> Manifest | None:
    """The manifest of the tar that is already there; None if it was broken and is gone now."""
    path = layout.tar(shard)
    try:
        with store.open(path) as file:
            digest, size = hash_stream(file)
        with store.open(path) as file:
            theirs = _describe(file, digest, size, where=store.at(path))
        _require(theirs, recipe_sha256, shard, keys, where=store.at(path))
    except FileNotFoundError:  # another writer removed it just now, for the reason below
        return None
    except CorruptError:
        if store.exists(layout.manifest(shard)):
            raise
        store.delete(path)
        return None
    return theirs


def _describe(file: BinaryIO, digest: str, size: int, *, where: str) -> Manifest:
    walked = walk_tar(file, where=where)
    return Manifest(
        recipe_sha256=walked.recipe_sha256,
        shard=walked.shard,
        tar_sha256=digest,
        tar_bytes=size,
        rows=walked.rows,
    )


def _require(
    found: Manifest, recipe_sha256: str, shard: int, keys: Sequence[str], *, where: str
) -> None:
    if (found.recipe_sha256, found.shard) != (recipe_sha256, shard):
        raise CorruptError(f"{where}: belongs to another recipe or shard; render the shard again")
    if [row.key for row in found.rows] != list(keys):
        raise CorruptError(f"{where}: its keys are not those of the plan; render the shard again")
