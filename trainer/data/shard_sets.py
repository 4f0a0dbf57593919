"""A sealed shard set as a source: views are read from its tars by the offsets of its manifests."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from manifests.canonical import sha256_hex
from manifests.errors import CorruptError
from manifests.latents import LATENT
from manifests.rereading import reread
from manifests.schema import CORE_SCHEMA
from manifests.seal import ShardSummary
from manifests.shard_set import ShardSet
from manifests.tables import read_table
from trainer.data.groups import GroupTable, class_indices
from trainer.data.indexed import IndexedStream, StoredView
from trainer.data.sources import Demand, GroupStream
from trainer.errors import CorruptViewError, DataError

CACHED_SHARDS = 24
"""Manifests kept in memory by each reader: a block of the order and a little more."""


_INDEX_COLUMNS = ("group_id", "status", "kind", "text", "label")
_VIEW_COLUMNS = (
    *("key", "group_id", "view_index", "status", "text"),
    *("sha256", "offset", "length", "width_px", "height_px"),
)


class ShardSetSource:
    """A sealed shard set. What it reads is checked: the seal, then manifests, then each image.

    Raises:
        DataError: The set is not sealed.
    """

    def __init__(self, url: str) -> None:
        self._address = url  # with its secrets; `self.url` below has none
        self._open()
        self.url = self._shards.store.url
        seal = self._shards.seal()
        if seal is None:
            committed, total = len(self._shards.committed()), self._shards.layout.num_shards
            raise DataError(
                f"{self.url}: not sealed, {committed} of {total} shards are committed; let "
                "`synth generate` finish, or seal what is there with --seal-incomplete"
            )
        self.root = seal.root_sha256
        self._sealed = {summary.shard: summary for summary in seal.shards}

    def _open(self) -> None:
        self._process = os.getpid()
        self._own_shards = ShardSet.open(self._address)
        self._cache: OrderedDict[int, _Views] = OrderedDict()

    @property
    def _shards(self) -> ShardSet:
        """The set as this process opened it.

        Clients of object stores do not survive a fork, so a loader worker opens its own.
        """
        if os.getpid() != self._process:
            self._open()
        return self._own_shards

    def stream(self, demand: Demand) -> GroupStream:
        return IndexedStream(self, self.table(), demand)

    def table(self) -> GroupTable:
        """All groups, in the order of the set; reads every manifest once."""
        parts = [self._index(sealed) for sealed in self._sealed.values()]
        classes, labels = class_indices([label for part in parts for label in part.labels])
        return GroupTable(
            url=self.url,
            classes=classes,
            labels=labels,
            ids=np.concatenate([part.ids for part in parts]),
            shards=np.concatenate([part.shards for part in parts]),
            first_rows=np.concatenate([part.first_rows for part in parts]),
            num_views=np.concatenate([part.num_views for part in parts]),
            only_views=np.full(sum(len(part.ids) for part in parts), -1, dtype=np.int32),
            has_caption=np.concatenate([part.has_caption for part in parts]),
        )

    @property
    def has_latents(self) -> bool:
        columns = self._shards.recipe.identity.columns
        return any((c.name, c.type, c.scope) == (LATENT.name, "string", "view") for c in columns)

    def _columns(self, sealed: ShardSummary, names: Sequence[str]) -> pa.Table:
        path = self._shards.layout.manifest(sealed.shard)
        where = self._shards.store.at(path)

        def read() -> bytes:
            data = self._shards.store.read(path)
            if sha256_hex(data) != sealed.manifest_sha256:
                raise CorruptError(
                    f"{where}: not the manifest that was sealed; restore it from a copy"
                )
            return data

        try:
            data = reread(read)
        except FileNotFoundError as exc:
            raise CorruptError(f"{where}: is gone; restore it from a copy") from exc
        fields = [LATENT.field() if n == LATENT.name else CORE_SCHEMA.field(n) for n in names]
        schema = pa.schema(fields)
        return read_table(data, schema, where=where)[0]

    def _index(self, sealed: ShardSummary) -> "_Index":
        table = self._columns(sealed, _INDEX_COLUMNS)
        ids = table["group_id"].to_numpy()
        good = table["status"].to_numpy(zero_copy_only=False) == "ok"
        firsts = _first_rows(ids)
        return _Index(
            ids=ids[firsts],
            shards=np.full(len(firsts), sealed.shard, dtype=np.int32),
            first_rows=firsts.astype(np.int32),
            num_views=np.add.reduceat(good, firsts, dtype=np.int32),
            has_caption=_is_caption(table.take(firsts)),
            labels=table["label"].take(firsts).to_pylist(),
        )

    def _views(self, shard: int) -> "_Views":
        if shard not in self._cache:
            if len(self._cache) >= CACHED_SHARDS:
                self._cache.popitem(last=False)
            latent = (LATENT.name,) if self.has_latents else ()
            table = self._columns(self._sealed[shard], (*_VIEW_COLUMNS, *latent))
            self._cache[shard] = _Views(table)
        self._cache.move_to_end(shard)
        return self._cache[shard]

    def read(self, shard: int, first_row: int, chosen: Sequence[int]) -> list[StoredView]:
        """The chosen views, by one read of the tar: the views of a group are adjacent in it."""
        try:
            return self._read_once(shard, first_row, chosen)
        except CorruptViewError:
            return self._read_once(shard, first_row, chosen)  # a bit may have flipped on the way

    def _read_once(self, shard: int, first_row: int, chosen: Sequence[int]) -> list[StoredView]:
        views = self._views(shard)
        rows = views.good_rows(first_row)[list(chosen)]
        starts, ends = views.offset[rows], views.offset[rows] + views.length[rows]
        begin = int(starts.min())
        path = self._shards.layout.tar(shard)
        where = self._shards.store.at(path)
        try:
            data = self._shards.store.read_range(path, begin, int(ends.max()) - begin)
        except FileNotFoundError as exc:
            raise CorruptViewError(f"{where}: the tar is gone; restore it from a copy") from exc
        stored = []
        for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
            image = data[start - begin : end - begin]
            if sha256(image).hexdigest() != views.sha256[row].as_py():
                raise CorruptViewError(
                    f"{where}, {views.key[row]}: not the image that was committed; run `synth "
                    "verify`, or allow some with --set data.max_bad_groups=N"
                )
            stored.append(
                StoredView(
                    data=image,
                    where=f"{where}, {views.key[row]}",
                    size_px=(int(views.width_px[row]), int(views.height_px[row])),
                    view_index=int(views.view_index[row]),
                    latent=views.latent[row].as_py() if views.latent is not None else "",
                )
            )
        return stored

    def caption(self, shard: int, first_row: int) -> str:
        return str(self._views(shard).text[first_row])


def _is_caption(groups: pa.Table) -> NDArray[np.bool_]:
    """Whether the text of each group is a caption; texts of other kinds are for machines."""
    kinds = groups["kind"].to_pylist()
    texts = groups["text"].to_pylist()
    return np.array(
        [kind == "caption" and text != "" for kind, text in zip(kinds, texts, strict=True)]
    )


def _first_rows(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where a new group begins: the views of a group are adjacent (SPEC.md)."""
    return np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if len(ids) else ids


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    ids: NDArray[np.int64]
    shards: NDArray[np.int32]
    first_rows: NDArray[np.int32]
    num_views: NDArray[np.int32]
    has_caption: NDArray[np.bool_]
    labels: list[str]


class _Views:
    """The columns of one manifest that reading needs."""

    def __init__(self, table: pa.Table) -> None:
        self.group_id = table["group_id"].to_numpy()
        self.view_index = table["view_index"].to_numpy()
        self.offset = table["offset"].to_numpy()
        self.length = table["length"].to_numpy()
        self.width_px = table["width_px"].to_numpy()
        self.height_px = table["height_px"].to_numpy()
        self.key = table["key"]
        self.text = table["text"]
        self.sha256 = table["sha256"]
        self.latent = table[LATENT.name] if LATENT.name in table.column_names else None
        self._is_good = table["status"].to_numpy(zero_copy_only=False) == "ok"

    def good_rows(self, first_row: int) -> NDArray[np.int64]:
        """Rows of the good views of the group that begins at a row."""
        last = first_row
        while last < len(self.group_id) and self.group_id[last] == self.group_id[first_row]:
            last += 1
        return first_row + np.flatnonzero(self._is_good[first_row:last])
