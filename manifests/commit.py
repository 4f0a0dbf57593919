"""Commit of a shard: the tar first, then the manifest, each created only if absent.

Tar and manifest depend on the recipe alone. So the same two files are there in the end, whether
this writer wins a race, loses it, or wins it and the storage's answer is lost. Nothing is ever
overwritten or deleted (docs/adr/0002-the-manifest-is-the-commit.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from manifests.canonical import hash_stream
from manifests.columns import DeclaredColumn
from manifests.errors import CorruptError
from manifests.layout import Layout
from manifests.manifest import Manifest, parse_manifest
from manifests.recipe import Recipe
from manifests.rereading import reread
from manifests.storage import Store
from manifests.tars import walk_tar


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the tar of one shard has to be."""

    recipe_sha256: str
    shard: int
    keys: Sequence[str]
    """Keys of the plan, in order."""
    columns: Sequence[DeclaredColumn]

    @classmethod
    def of(cls, recipe: Recipe, shard: int, keys: Sequence[str]) -> "Expected":
        """What a recipe expects of a shard."""
        columns = recipe.identity.columns
        return cls(recipe_sha256=recipe.sha256, shard=shard, keys=keys, columns=columns)


def commit_shard(
    store: Store,
    layout: Layout,
    expected: Expected,
    tar: Path,
    *,
    before_manifest: Callable[[Manifest], None] = lambda manifest: None,
) -> Manifest:
    """Create the tar and the manifest of a shard, from a tar in a local folder.

    Args:
        before_manifest: Called after the tar is stored and before the manifest is: for files that
            have to exist whenever the shard does, such as its statistics.

    Returns:
        The committed manifest; that of another writer's equal shard if that writer was faster.

    Raises:
        CorruptError: The tar is not what the plan expects, or the shard was committed with
            other bytes, which means that rendering is not deterministic.
    """
    with tar.open("rb") as hashed, tar.open("rb") as walked:
        manifest = _describe(hashed, walked, expected, where=str(tar))
    path = layout.tar(expected.shard)
    stated = (manifest.tar_sha256, manifest.tar_bytes)
    if not store.create(path, tar) and _hash(store, path) != stated:
        # Readers will see the stored tar, so the manifest has to describe that one and not ours.
        manifest = describe_tar(store, layout, expected)
    before_manifest(manifest)
    return _commit_manifest(store, layout, manifest)


def commit_tar_in_place(store: Store, layout: Layout, expected: Expected) -> Manifest:
    """Commit a tar that a killed writer left without its manifest.

    Raises:
        CorruptError: The tar is not what the plan expects.
        FileNotFoundError: There is no tar.
    """
    return _commit_manifest(store, layout, describe_tar(store, layout, expected))


def describe_tar(store: Store, layout: Layout, expected: Expected) -> Manifest:
    """Build the manifest of a tar in the store, whether the shard is committed or not.

    Raises:
        CorruptError: The tar is not what the plan expects.
        FileNotFoundError: There is no tar.
    """
    path = layout.tar(expected.shard)

    def describe() -> Manifest:
        with store.open(path) as hashed, store.open(path) as walked:
            manifest = _describe(hashed, walked, expected, where=store.at(path))
        # Twice, because a bit that flips on the way would stay in the manifest for ever.
        if _hash(store, path) != (manifest.tar_sha256, manifest.tar_bytes):
            raise CorruptError(f"{store.at(path)}: gives other bytes at another reading")
        return manifest

    try:
        return reread(describe)
    except CorruptError as exc:
        if store.exists(layout.manifest(expected.shard)):
            raise  # `synth gc` does not remove the tar of a committed shard
        raise CorruptError(
            f"{exc}. Nothing is overwritten: `synth gc {store.url} --yes` removes it"
        ) from exc


def _hash(store: Store, path: str) -> tuple[str, int]:
    with store.open(path) as file:
        return hash_stream(file)


def _commit_manifest(store: Store, layout: Layout, manifest: Manifest) -> Manifest:
    path = layout.manifest(manifest.shard)
    if store.create(path, manifest.to_bytes()):
        return manifest
    # Another writer was first, or we were and the answer was lost: read back and compare.
    columns, where = manifest.columns, store.at(path)
    committed = reread(lambda: parse_manifest(store.read(path), columns, where=where))
    if committed.tar_sha256 != manifest.tar_sha256:
        raise CorruptError(
            f"{store.at(path)}: commits another tar than the one that is there; "
            "two writers rendered different pixels: run `synth verify`"
        )
    return committed


def _describe(hashed: BinaryIO, walked: BinaryIO, expected: Expected, *, where: str) -> Manifest:
    digest, size = hash_stream(hashed)
    tar = walk_tar(walked, expected.columns, where=where)
    if (tar.recipe_sha256, tar.shard) != (expected.recipe_sha256, expected.shard):
        raise CorruptError(f"{where}: belongs to another recipe or shard; render the shard again")
    if [row.key for row in tar.rows] != list(expected.keys):
        raise CorruptError(f"{where}: its keys are not those of the plan; render the shard again")
    return Manifest(
        recipe_sha256=tar.recipe_sha256,
        shard=tar.shard,
        tar_sha256=digest,
        tar_bytes=size,
        columns=expected.columns,
        rows=tar.rows,
    )
