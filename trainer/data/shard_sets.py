"""A sealed shard set as a source: groups are read from its tars by the places of its index."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.canonical import sha256_hex
from manifests.errors import CorruptError
from manifests.index import INDEX_SCHEMA, check_of, index_of
from manifests.latents import LATENT
from manifests.manifest import parse_manifest
from manifests.rereading import reread
from manifests.seal import ShardSummary
from manifests.shard_set import ShardSet
from manifests.storage import Store
from manifests.tables import read_table
from manifests.tars import members_of_group
from trainer.data.forking import PerProcess
from trainer.data.groups import GroupTable, class_indices
from trainer.data.index_cache import Arrays, mapped
from trainer.data.indexed import IndexedStream, StoredGroup, StoredView
from trainer.data.sources import Demand, GroupStream
from trainer.data.tar_cache import TarCache, WholeTar
from trainer.data.tar_reads import TarReads
from trainer.errors import CorruptViewError, DataError
from trainer.origin import SetFacts, facts_of_seal

INDEX_READERS = 32
"""Files of an index, or manifests of a set that has none, that are read at once."""

SHARED_FROM = 1_000_000
"""Groups from which on a machine keeps an index: some 40 MB."""

_Item = TypeVar("_Item")
_Content = TypeVar("_Content")


class ShardSetSource:
    """A sealed shard set. What it reads is checked: the seal, the index, rows, then each image.

    Raises:
        DataError: The set is not sealed.
    """

    def __init__(self, url: str) -> None:
        self._opened = PerProcess(partial(ShardSet.open, url))
        self.url = self._shards.store.url
        seal = self._shards.seal()
        if seal is None:
            committed, total = len(self._shards.committed()), self._shards.layout.num_shards
            raise DataError(
                f"{self.url}: not sealed, {committed} of {total} shards are committed; let "
                "`synth generate` finish, or seal what is there with --seal-incomplete"
            )
        self.root = seal.root_sha256
        self._seal = seal
        self._places: Places | None = None
        self._tars = TarReads(self._store)

    @property
    def _shards(self) -> ShardSet:
        return self._opened.get()

    def _store(self) -> Store:
        return self._shards.store

    def facts(self) -> SetFacts | None:
        """What the set says of its images; None if its seal does not."""
        return facts_of_seal(self._shards.recipe.identity, self._seal)

    def stream(self, demand: Demand) -> GroupStream:
        if demand.cache:
            count = len(self._seal.shards)
            self._tars.cache = TarCache(demand.cache, self.root, count, self._tar, self._store)
        return IndexedStream(self, self.table(), demand)

    def _tar(self, place: int) -> WholeTar:
        """The tar of one of the sealed shards, which are those of the index."""
        sealed = self._seal.shards[place]
        return WholeTar(
            path=self._shards.layout.tar(sealed.shard),
            num_bytes=sealed.tar_bytes,
            sha256=sealed.tar_sha256,
        )

    def table(self) -> GroupTable:
        """All groups, in the order of the set. The index is read, or of an older set all manifests.

        Raises:
            CorruptError: A file of it is gone or was changed.
        """
        # A small index is read sooner than it is looked up.
        if self._shards.recipe.identity.num_subjects >= SHARED_FROM:
            arrays = mapped(self.root, self._arrays)
        else:
            arrays = self._arrays()
        self._places = Places(arrays)
        return GroupTable(
            url=self.url,
            classes=tuple(arrays["classes"].tolist()),
            labels=arrays["labels"],
            ids=arrays["ids"],
            num_views=arrays["num_views"],
            has_caption=arrays["has_caption"],
        )

    def _arrays(self) -> Arrays:
        with ThreadPoolExecutor(INDEX_READERS, thread_name_prefix="index") as pool:
            if paths := self._seal.index:
                parts = [*pool.map(self._index_file, paths)]
            else:
                parts = [*pool.map(self._index_of_shard, self._seal.shards)]
        index = joined(parts)
        del parts
        arrays = arrays_of(index)
        del index
        pa.default_memory_pool().release_unused()  # or Arrow keeps it for later tables
        return arrays

    def _index_file(self, path: str) -> pa.Table:
        data = self._checked(path, self._seal.files[path])
        return compact(read_table(data, INDEX_SCHEMA, where=self._shards.store.at(path))[0])

    def _index_of_shard(self, sealed: ShardSummary) -> pa.Table:
        path = self._shards.layout.manifest(sealed.shard)
        data = self._checked(path, sealed.manifest_sha256)
        columns = self._shards.recipe.identity.columns
        manifest = parse_manifest(data, columns, where=self._shards.store.at(path))
        return compact(index_of(manifest))

    def _checked(self, path: str, expected: str) -> bytes:
        """A file that the seal names."""
        where = self._shards.store.at(path)

        def read() -> bytes:
            data = self._shards.store.read(path)
            if sha256_hex(data) != expected:
                raise CorruptError(f"{where}: not the file that was sealed; restore it from a copy")
            return data

        try:
            return reread(read)
        except FileNotFoundError as exc:
            raise CorruptError(f"{where}: is gone; restore it from a copy") from exc

    @property
    def has_latents(self) -> bool:
        columns = self._shards.recipe.identity.columns
        return any((c.name, c.type, c.scope) == (LATENT.name, "string", "view") for c in columns)

    @property
    def reads_at_once(self) -> int:
        return self._tars.at_once

    def read(self, group: int, chosen: Sequence[int]) -> StoredGroup:
        """The chosen views, by one read of the tar: the views of a group are adjacent in it."""
        assert self._places is not None
        place = self._places.of(group)
        try:
            return self._read_once(place, chosen)
        except CorruptViewError:
            self._tars.forget(place.number)
            return self._read_once(place, chosen)  # a bit may have flipped on the way

    def _read_once(self, place: "Place", chosen: Sequence[int]) -> StoredGroup:
        offset = place.offset
        path = self._shards.layout.tar(place.shard)
        where = self._shards.store.at(path)
        try:
            data = self._tars.read(place.number, path, offset, place.length)
            views = [*members_of_group(data, where=f"{where}, byte {offset}")]
        except FileNotFoundError as exc:
            raise CorruptViewError(f"{where}: the tar is gone; restore it from a copy") from exc
        except CorruptError as exc:
            raise CorruptViewError(str(exc)) from exc
        if check_of([row for _, row in views]) != place.check:
            raise CorruptViewError(
                f"{where}, byte {offset}: not the group that was committed; run `synth verify`, or "
                "allow some with --set data.max_bad_groups=N"
            )
        stored, caption = [], ""
        for image, text in (views[number] for number in chosen):
            row = json.loads(text)
            if sha256(image).hexdigest() != row["sha256"]:
                raise CorruptViewError(
                    f"{where}, {row['key']}: not the image that was committed; run `synth verify`, "
                    "or allow some with --set data.max_bad_groups=N"
                )
            stored.append(
                StoredView(
                    data=image,
                    where=f"{where}, {row['key']}",
                    size_px=(row["width_px"], row["height_px"]),
                    view_index=row["view_index"],
                    latent=row.get(LATENT.name, ""),
                )
            )
            caption = row["text"]
        return StoredGroup(views=stored, caption=caption)


def compact(index: pa.Table) -> pa.Table:
    """Part of an index in a third of the memory: there may be ten million groups."""
    kinds, lengths = index["kind"], index["length"]
    if pc.max(lengths).as_py() < 2**32:
        lengths = lengths.cast(pa.uint32())
    return pa.table(
        {
            "shard": index["shard"].cast(pa.int32()),
            "group_id": index["group_id"],
            "num_ok": index["num_ok"].cast(pa.int32()),
            "length": lengths,
            "check": index["check"],
            "has_caption": pc.equal(kinds, "caption"),
            "label": index["label"].dictionary_encode(),
        }
    )


def joined(parts: Sequence[pa.Table]) -> pa.Table:
    """Parts that `compact` has made; one of them may have lengths of more bits than the others."""
    return pa.concat_tables(parts, promote_options="permissive")


def arrays_of(index: pa.Table) -> Arrays:
    """What is kept of an index.

    Copies: loader processes are forks, and memory of Arrow is not to be freed in them.
    """
    classes, labels = class_indices(index["label"])
    # Groups are in the order of shards, and in a tar they follow each other without a gap.
    shards, firsts = np.unique(index["shard"].to_numpy(), return_index=True)
    return {
        "classes": np.array(classes, dtype=np.str_),
        "labels": labels,
        "ids": index["group_id"].to_numpy().copy(),
        "num_views": index["num_ok"].to_numpy().copy(),
        "has_caption": index["has_caption"].to_numpy().copy(),
        "lengths": index["length"].to_numpy().copy(),
        "checks": index["check"].to_numpy().copy(),
        "shards": shards,
        "firsts": firsts,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a group lies."""

    shard: int
    number: int
    """Of the shard among those that have groups in the index."""
    offset: int
    """First byte in the tar."""
    length: int
    check: int
    """Hash of its rows."""


class Places:
    """Where each group lies: 12 bytes of memory for one."""

    def __init__(self, arrays: Arrays) -> None:
        self._lengths, self._checks = arrays["lengths"], arrays["checks"]
        self._shards, self._firsts = arrays["shards"], arrays["firsts"]

    def of(self, group: int) -> Place:
        """The place of a group, by its number in the index."""
        number = int(np.searchsorted(self._firsts, group, side="right")) - 1
        return Place(
            shard=int(self._shards[number]),
            number=number,
            offset=int(self._lengths[self._firsts[number] : group].sum(dtype=np.int64)),
            length=int(self._lengths[group]),
            check=int(self._checks[group]),
        )
