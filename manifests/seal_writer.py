"""Seal a set: `dataset.json`, which names and hashes every file, then the files derived from it."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from manifests.about import AboutCounter, ShardFacts, facts_of
from manifests.canonical import hash_file, sha256_hex
from manifests.commit import Expected, commit_tar_in_place
from manifests.derived import derived_files, example_files
from manifests.errors import ContractError, CorruptError
from manifests.foundation.scratch import scratch_errors, scratch_folder
from manifests.foundation.threads import in_threads
from manifests.index import INDEX_SCHEMA, index_files, index_of
from manifests.layout import ALL_FOLDERS, RECIPE, SEAL
from manifests.manifest import Manifest, parse_manifest
from manifests.rereading import read_alike, reread
from manifests.seal import Seal, ShardSummary
from manifests.shard_numbers import ShardNumbers
from manifests.shard_set import ShardSet
from manifests.storage import Store
from manifests.tables import read_table

READERS = 16
"""Files that are read at once: in a bucket a reading is mostly waiting."""


def seal_set(shards: ShardSet, *, incomplete: bool = False) -> Seal:
    """Seal a set. If it is sealed already, only derived files that are missing are written.

    Args:
        incomplete: Seal although shards are missing; the seal names them.

    Returns:
        The seal as it is stored, of whichever writer was first.

    Raises:
        ContractError: Shards are missing and `incomplete` is not set.
        CorruptError: A tar that no manifest commits is broken, a tar has another size than its
            manifest says, or a file of the plan is gone or was changed.
    """
    seal = shards.seal()
    if seal is None:
        _write_seal(shards, incomplete)
        seal = shards.seal()  # read back: another writer may have created it first
        if seal is None:
            raise CorruptError(
                f"{shards.store.at(SEAL)}: the name is taken by something that is no file, such as "
                "a dead link; remove it and run the same command again"
            )
    complete_sealed(shards, seal)
    return seal


def complete_sealed(shards: ShardSet, seal: Seal) -> None:
    """Write what follows from the seal, whose writer may have been killed right after it."""
    for path, content in derived_files(shards.recipe, seal).items():
        if not shards.store.exists(path):
            shards.store.create(path, content)
    for path, example in example_files(shards.recipe, seal).items():
        if not shards.store.exists(path):
            shards.store.create(path, shards.image_at(example.shard, example))
    for folder in ALL_FOLDERS:
        # A writer who loses a temporary file by this, because it is not done yet, repeats it.
        shards.store.sweep(folder)


def _write_seal(shards: ShardSet, incomplete: bool) -> None:
    store, layout = shards.store, shards.layout
    if incomplete:
        _commit_tars_in_place(shards)
    committed = shards.committed()
    missing = committed.missing()
    if missing and not incomplete:
        raise ContractError(
            f"{store.url}: {len(missing)} of {layout.num_shards} shards are missing, the first is "
            f"{missing[0]}; run `synth generate` again, or seal with --seal-incomplete"
        )
    # The root is in the names of the index, and known only when all of it is made.
    with scratch_folder() as scratch:
        seal, index = _describe(shards, committed, scratch)
        hashes = {}
        for number, content in index.items():
            path = layout.index(seal.root_sha256, number)
            hashes[path] = _store_index(store, path, content)
    store.create(SEAL, replace(seal, files={**seal.files, **hashes}).to_bytes())


def _describe(
    shards: ShardSet, committed: ShardNumbers, scratch: Path
) -> tuple[Seal, dict[int, Path]]:
    """The seal of what is committed, without its index, and the files of that by number."""
    store, layout = shards.store, shards.layout
    read = partial(in_threads, num_threads=READERS, name="seal")
    summaries: list[ShardSummary] = []
    counter = AboutCounter()

    def indexed() -> Iterator[tuple[int, pa.Table]]:
        # All tars are listed once, and none of them is asked for.
        summarize = partial(_summarize, shards, store.list("data"))
        for summary, index, facts in read(summarize, committed):
            summaries.append(summary)
            counter.add(facts)
            yield summary.shard, index

    index: dict[int, Path] = {}
    for number, content in index_files(indexed()):
        index[number] = scratch / f"{number}.parquet"
        with scratch_errors():
            index[number].write_bytes(content)
    shards.plan.require(range(layout.num_shards))
    files = [RECIPE]
    for folder in ("stats", "failed"):
        numbered = (path for path in store.files(folder) if layout.number(path) is not None)
        files += sorted(numbered)
    hashes = read(lambda path: sha256_hex(read_alike(store, path)), files)
    seal = Seal(
        recipe_sha256=shards.recipe_sha256,
        shards=summaries,
        missing=list(committed.missing()),
        files={**shards.recipe.subject_files, **dict(zip(files, hashes, strict=True))},
        about=counter.result(),
    )
    return seal, index


def _store_index(store: Store, path: str, content: Path) -> str:
    """Create a file of the index, and give the hash of the one that is there.

    Raises:
        CorruptError: A writer that was killed left one that says something else.
    """
    if store.create(path, content):
        return hash_file(content)
    stored, ours = read_alike(store, path), content.read_bytes()
    tables = [read_table(data, INDEX_SCHEMA, where=store.at(path))[0] for data in (stored, ours)]
    if stored != ours and not tables[0].equals(tables[1]):  # another pyarrow writes other bytes
        raise CorruptError(f"{store.at(path)}: is not the index of this set; remove it")
    return sha256_hex(stored)


def _commit_tars_in_place(shards: ShardSet) -> None:
    """Commit whole tars that have no manifest, because stock readers read every tar in `data/`."""
    committed = shards.committed()
    for path in shards.store.list("data"):
        shard = shards.layout.number(path)
        if shard is not None and shard not in committed:
            keys = [request.key for request in shards.requests(shard)]
            expected = Expected.of(shards.recipe, shard, keys)
            commit_tar_in_place(shards.store, shards.layout, expected)


def _summarize(
    shards: ShardSet, sizes: dict[str, int], shard: int
) -> tuple[ShardSummary, pa.Table, ShardFacts]:
    """The line of the seal for a shard, the index of its groups, and what they are about."""
    path = shards.layout.manifest(shard)
    columns, where = shards.recipe.identity.columns, shards.store.at(path)

    def read() -> tuple[bytes, Manifest]:
        data = shards.store.read(path)
        return data, parse_manifest(data, columns, where=where)

    data, manifest = reread(read)
    tar = shards.layout.tar(shard)
    if sizes.get(tar) != manifest.tar_bytes:
        raise CorruptError(
            f"{shards.store.at(tar)}: is not {manifest.tar_bytes} bytes as its manifest says; "
            "run `synth verify`"
        )
    summary = ShardSummary(
        shard=shard,
        tar_sha256=manifest.tar_sha256,
        tar_bytes=manifest.tar_bytes,
        manifest_sha256=sha256_hex(data),
        num_views=len(manifest.rows),
        num_ok=manifest.num_ok,
    )
    return summary, index_of(manifest), facts_of(manifest)
