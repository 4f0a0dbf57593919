"""Plain WebDataset tars as a source: each image is a group of one view.

Such tars have no manifest, so nothing says where an image begins. They are read once, in order;
where each image lies is noted in a cache of this machine, and from then on images are read at
random, as those of a shard set are.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manifests.canonical import hash_json
from manifests.errors import CorruptError
from manifests.foundation.caches import LOCK, NO_CACHE, cache_folder, locked, shrink
from manifests.foundation.files import write_whole
from manifests.foundation.progress import progress
from manifests.storage import Store, open_store
from manifests.tables import read_table, write_table
from trainer.data.foreign_tars import Content, read_groups
from trainer.data.forking import PerProcess
from trainer.data.groups import GroupTable, class_indices, id_of
from trainer.data.indexed import IndexedStream, StoredGroup, StoredView
from trainer.data.sources import Demand, GroupStream
from trainer.data.tar_cache import TarCache, WholeTar
from trainer.data.tar_reads import TarReads
from trainer.errors import CorruptViewError, DataError

SUFFIXES = ("jpg", "jpeg", "png", "webp")
MAX_BYTES = 20 << 30
"""Of all notes on tars that a machine keeps; those that were used longest ago make room."""
TARS_AT_ONCE = 4
"""Tars that are read at once while they are indexed."""

_SCHEMA = pa.schema(
    [
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("check", pa.int64()),
        ("text_offset", pa.int64()),
        ("text_length", pa.int64()),
        ("has_caption", pa.bool_()),
        ("label", pa.string()),
    ]
)
"""One row for each image of a tar: where it and its text lie, and eight bytes of its hash."""


class TarSource:
    """All tars directly under a URL, in the order of their names.

    A member `txt` is the caption of its image and a member `cls` is its label.

    Raises:
        DataError: No tar, or a broken one.
    """

    has_latents = False

    def __init__(self, url: str) -> None:
        self._opened = PerProcess(partial(open_store, url))
        self.url = self._store.url
        sizes = {path: n for path, n in self._store.list().items() if path.endswith(".tar")}
        if not sizes:
            raise DataError(f"{self.url}: no *.tar here; give the folder that holds the tars")
        self._sizes = [*sizes.items()]
        self.root, parts = _index(self._store, sizes)
        counts = [len(part) for part in parts]
        self._firsts = np.cumsum([0, *counts])
        rows = pa.concat_tables(parts)
        # Copies: loader processes are forks, and memory of Arrow is not to be freed in them.
        self._places = {name: rows[name].to_numpy().copy() for name in _SCHEMA.names[:5]}
        self._classes, self._labels = class_indices(rows["label"])
        self._has_caption = rows["has_caption"].to_numpy().copy()
        self._tars = TarReads(self._opened.get)

    @property
    def _store(self) -> Store:
        return self._opened.get()

    @property
    def reads_at_once(self) -> int:
        return self._tars.at_once

    def stream(self, demand: Demand) -> GroupStream:
        if demand.cache:
            # With the sizes, because equal images may be spread over the tars in other ways.
            name = hash_json([self.root, [list(pair) for pair in self._sizes]])
            count = len(self._sizes)
            self._tars.cache = TarCache(demand.cache, name, count, self._tar, self._opened.get)
        return IndexedStream(self, self.table(), demand)

    def _tar(self, number: int) -> WholeTar:
        path, num_bytes = self._sizes[number]
        return WholeTar(path=path, num_bytes=num_bytes, sha256="")

    def table(self) -> GroupTable:
        """All images, in the order of the tars."""
        count = len(self._has_caption)
        # Made from the position, because two images with the same bytes are still two groups; and
        # from the root, because a mixture has the images of several sources.
        ids = [id_of(f"{self.root} {index}".encode()) for index in range(count)]
        return GroupTable(
            url=self.url,
            classes=self._classes,
            labels=self._labels,
            ids=np.array(ids, dtype=np.int64),
            num_views=np.ones(count, dtype=np.int32),
            has_caption=self._has_caption,
        )

    def read(self, group: int, chosen: Sequence[int]) -> StoredGroup:
        """An image and its text, by one read of the tar: they are adjacent in it."""
        number = int(np.searchsorted(self._firsts, group, side="right")) - 1
        try:
            return self._read_once(group, number)
        except CorruptViewError:
            self._tars.forget(number)
            return self._read_once(group, number)  # a bit may have flipped on the way

    def _read_once(self, group: int, number: int) -> StoredGroup:
        tar, _ = self._sizes[number]
        place = {name: int(values[group]) for name, values in self._places.items()}
        where = f"{self._store.at(tar)}, byte {place['offset']}"
        starts = [place["offset"]]
        ends = [place["offset"] + place["length"]]
        if place["text_length"]:
            starts.append(place["text_offset"])
            ends.append(place["text_offset"] + place["text_length"])
        begin = min(starts)
        try:
            data = self._tars.read(number, tar, begin, max(ends) - begin)
        except FileNotFoundError as exc:
            raise CorruptViewError(f"{where}: the tar is gone; restore it") from exc
        image = data[starts[0] - begin : ends[0] - begin]
        if _check(image) != place["check"]:
            raise CorruptViewError(
                f"{where}: not the image that was there when the tars were indexed; restore the "
                "tar, or allow some with --set data.max_bad_groups=N; if all tars were made anew, "
                "remove the cache synth/tars"
            )
        text = data[starts[-1] - begin : ends[-1] - begin] if place["text_length"] else b""
        view = StoredView(data=image, where=where, size_px=None, view_index=0)
        return StoredGroup(views=[view], caption=_text(text))


def _check(image: bytes) -> int:
    return int.from_bytes(sha256(image).digest()[:8], "big", signed=True)


def _text(member: bytes) -> str:
    return member.decode("utf-8", "replace").strip()


def _index(store: Store, sizes: Mapping[str, int]) -> tuple[str, list[pa.Table]]:
    """Hash of all images and texts, and the rows of each tar; from the cache if they are there.

    Tars count as the same ones while their address, names and sizes are the same, and of a folder
    of this machine the times of change. What is read is checked against the index.
    """
    local = [store.local_path(path) for path in sizes]
    with ExitStack() as stack:
        try:
            times = [path.stat().st_mtime_ns for path in local if path is not None]
            folder = cache_folder("tars") / hash_json([store.url, dict(sizes), times])[:32]
            folder.mkdir(parents=True, exist_ok=True)
            # One process of a machine reads the tars, and the others wait for what it notes.
            stack.enter_context(locked(folder / LOCK))
        except NO_CACHE:
            return _scan(store, sizes)
        if (known := _read_cache(folder, len(sizes))) is not None:
            return known
        root, parts = _scan(store, sizes)
        with suppress(OSError):  # a full disk: it is only a cache
            for number, part in enumerate(parts):
                write_whole(folder / f"{number:06d}.parquet", write_table(part, metadata={}))
            write_whole(folder / "root.json", json.dumps(root).encode())
            shrink(folder.parent, MAX_BYTES, keep=folder)
        return root, parts


def _read_cache(folder: Path, num_tars: int) -> tuple[str, list[pa.Table]] | None:
    """What is noted; None if there is nothing whole."""
    try:
        root = json.loads((folder / "root.json").read_bytes())
        paths = [folder / f"{number:06d}.parquet" for number in range(num_tars)]
        parts = [read_table(path.read_bytes(), _SCHEMA, where=str(path))[0] for path in paths]
    except (OSError, ValueError, CorruptError):
        return None
    return (root, parts) if isinstance(root, str) else None


def _scan(store: Store, sizes: Mapping[str, int]) -> tuple[str, list[pa.Table]]:
    """Read all tars. Raises DataError if one is broken."""
    digest = sha256()
    parts: list[pa.Table] = []
    with (
        ThreadPoolExecutor(TARS_AT_ONCE, thread_name_prefix="index") as pool,
        progress("index", "bytes", sum(sizes.values())) as advance,
    ):
        rows = pool.map(lambda path: _rows_of(store, path), sizes)
        for size, (part, digests) in zip(sizes.values(), rows, strict=True):
            parts.append(part)
            digest.update(digests)
            advance(size)
    return digest.hexdigest(), parts


def _rows_of(store: Store, path: str) -> tuple[pa.Table, bytes]:
    """The rows of one tar, and what the hash of the source is made of."""
    rows: list[dict[str, Any]] = []
    content = bytearray()
    for key, members in read_groups(store, path):
        images = [members[suffix] for suffix in SUFFIXES if suffix in members]
        if len(images) != 1:
            raise DataError(
                f"{store.at(path)}, {key}: {len(images)} images, expected one with suffix "
                f"{', '.join(SUFFIXES)}; there are {', '.join(sorted(members))}"
            )
        (image,) = images
        text: Content | None = members.get("txt")
        caption, label = _text(text or b""), _text(members.get("cls", b""))
        rows.append(
            {
                "offset": image.offset,
                "length": len(image),
                "check": _check(image),
                "text_offset": text.offset if text else 0,
                "text_length": len(text or b""),
                "has_caption": caption != "",
                "label": label,
            }
        )
        content += sha256(image).digest() + f"{caption}\0{label}".encode()
    return pa.Table.from_pylist(rows, schema=_SCHEMA), bytes(content)
