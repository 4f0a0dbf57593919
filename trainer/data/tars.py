"""Plain WebDataset tars as a source: each image is a group of one view.

Such tars have no manifest, so nothing says where an image begins. They are read once, in order,
when the index is first asked for; it is kept by this machine, and from then on images are read at
random, as those of a shard set are.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa

from manifests.canonical import hash_json
from manifests.foundation.progress import progress
from manifests.storage import Store, open_store
from trainer.data.foreign_tars import Content, read_groups
from trainer.data.forking import PerProcess
from trainer.data.groups import GroupTable, class_indices, id_of
from trainer.data.index_cache import Arrays, mapped, name_of_tars
from trainer.data.indexed import IndexedStream, StoredGroup, StoredView
from trainer.data.sources import Demand, GroupStream
from trainer.data.tar_cache import TarCache, WholeTar
from trainer.data.tar_reads import TarReads
from trainer.errors import CorruptViewError, DataError

SUFFIXES = ("jpg", "jpeg", "png", "webp")
TARS_AT_ONCE = 4
"""Tars that are read at once while they are indexed."""

_SCHEMA = pa.schema(
    [
        ("offset", pa.int64()),
        ("length", pa.uint32()),
        ("check", pa.int64()),
        ("text_offset", pa.int64()),
        ("text_length", pa.uint32()),
        ("has_caption", pa.bool_()),
        ("label", pa.string()),
    ]
)
"""One row for each image of a tar: where it and its text lie, and eight bytes of its hash."""
_PLACE = _SCHEMA.names[:5]


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
        self._sizes = sizes
        self._paths = [*sizes]
        self._tars = TarReads(self._opened.get)

    @cached_property
    def _index(self) -> Arrays:
        """What is known of the images, which the processes of a machine share. Reads all tars if it
        is not known here. Raises DataError if one of them is broken."""
        name = name_of_tars(self._store, self._sizes, "images of tars")
        return mapped(name, partial(_scan, self._store, self._sizes))

    @property
    def root(self) -> str:
        """Hash of all images and texts."""
        return str(self._index["root"])

    @property
    def _store(self) -> Store:
        return self._opened.get()

    @property
    def reads_at_once(self) -> int:
        return self._tars.at_once

    def stream(self, demand: Demand) -> GroupStream:
        if demand.cache:
            # With the sizes, because equal images may be spread over the tars in other ways.
            name = hash_json([self.root, [list(pair) for pair in self._sizes.items()]])
            count = len(self._paths)
            self._tars.cache = TarCache(demand.cache, name, count, self._tar, self._opened.get)
        return IndexedStream(self, self.table(), demand)

    def _tar(self, number: int) -> WholeTar:
        path = self._paths[number]
        return WholeTar(path=path, num_bytes=self._sizes[path], sha256="")

    def table(self) -> GroupTable:
        """All images, in the order of the tars."""
        index = self._index
        return GroupTable(
            url=self.url,
            classes=tuple(json.loads(index["classes"].tobytes())),
            labels=index["labels"],
            ids=index["ids"],
            num_views=np.broadcast_to(np.int32(1), index["ids"].shape),  # takes no memory
            has_caption=index["has_caption"],
        )

    def read(self, group: int, chosen: Sequence[int]) -> StoredGroup:
        """An image and its text, by one read of the tar: they are adjacent in it."""
        number = int(np.searchsorted(self._index["firsts"], group, side="right")) - 1
        try:
            return self._read_once(group, number)
        except CorruptViewError:
            self._tars.forget(number)
            return self._read_once(group, number)  # a bit may have flipped on the way

    def _read_once(self, group: int, number: int) -> StoredGroup:
        tar, place = self._paths[number], {name: int(self._index[name][group]) for name in _PLACE}
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
                "remove the cache synth/index"
            )
        text = data[starts[-1] - begin : ends[-1] - begin] if place["text_length"] else b""
        view = StoredView(data=image, where=where, size_px=None, view_index=0)
        return StoredGroup(views=[view], caption=_text(text))


def _check(image: bytes) -> int:
    return int.from_bytes(sha256(image).digest()[:8], "big", signed=True)


def _text(member: bytes) -> str:
    return member.decode("utf-8", "replace").strip()


def _scan(store: Store, sizes: Mapping[str, int]) -> Arrays:
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
    return arrays_of(digest.hexdigest(), parts)


def arrays_of(root: str, parts: Sequence[pa.Table]) -> Arrays:
    """What is kept of the rows of all tars."""
    firsts = np.cumsum([0, *map(len, parts)])
    rows = pa.concat_tables(parts)
    classes, labels = class_indices(rows["label"])
    # Made from the position, because two images with the same bytes are still two groups; and from
    # the root, because a mixture has the images of several sources.
    ids = (id_of(f"{root} {index}".encode()) for index in range(len(rows)))
    return {
        "root": np.array(root),
        "firsts": firsts,
        # As JSON: an array of texts has for each as many characters as the longest one has.
        "classes": np.frombuffer(json.dumps(classes).encode(), dtype=np.uint8),
        "labels": labels,
        "ids": np.fromiter(ids, dtype=np.int64, count=len(rows)),
        # Copies: loader processes are forks, and memory of Arrow is not to be freed in them.
        "has_caption": rows["has_caption"].to_numpy().copy(),
        **{name: rows[name].to_numpy().copy() for name in _PLACE},
    }


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
