"""Plain WebDataset tars as a source: each image is a group of one view.

Such tars have no manifest, so nothing says where an image begins. They are read once, in order, and
the encoded images are kept in memory; tars with more than MAX_BYTES of images are refused.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
import pyarrow as pa

from manifests.storage import open_store
from trainer.data.foreign_tars import read_groups
from trainer.data.groups import GroupTable, class_indices, id_of
from trainer.data.indexed import IndexedStream, StoredGroup, StoredView
from trainer.data.sources import Demand, GroupStream
from trainer.errors import DataError

MAX_BYTES = 8 << 30
"""Encoded images that are kept in memory, over the whole set."""
SUFFIXES = ("jpg", "jpeg", "png", "webp")


class TarSource:
    """All tars directly under a URL, in the order of their names.

    A member `txt` is the caption of its image and a member `cls` is its label.

    Raises:
        DataError: No tar, a broken one, or more than MAX_BYTES of images.
    """

    def __init__(self, url: str) -> None:
        store = open_store(url)
        self.url = store.url
        self._views: list[StoredView] = []
        self._captions: list[str] = []
        self._labels: list[str] = []
        digest, size = sha256(), 0
        tars = [path for path in store.list() if path.endswith(".tar")]
        if not tars:
            raise DataError(f"{self.url}: no *.tar here; give the folder that holds the tars")
        for path in tars:
            for key, members in read_groups(store, path):
                images = [members[suffix] for suffix in SUFFIXES if suffix in members]
                if len(images) != 1:
                    raise DataError(
                        f"{store.at(path)}, {key}: {len(images)} images, expected one with suffix "
                        f"{', '.join(SUFFIXES)}; there are {', '.join(sorted(members))}"
                    )
                (image,) = images
                size += len(image)
                if size > MAX_BYTES:
                    raise DataError(
                        f"{self.url}: more than {MAX_BYTES >> 30} GiB of images, but images of "
                        "tars without manifests are kept in memory; train on fewer tars"
                    )
                digest.update(sha256(image).digest())
                view = StoredView(
                    data=image, where=f"{store.at(path)}, {key}", size_px=None, view_index=0
                )
                self._views.append(view)
                self._captions.append(_text(members, "txt"))
                self._labels.append(_text(members, "cls"))
                digest.update(f"{self._captions[-1]}\0{self._labels[-1]}".encode())
        self.root = digest.hexdigest()

    def stream(self, demand: Demand) -> GroupStream:
        return IndexedStream(self, self.table(), demand)

    def table(self) -> GroupTable:
        """All images, in the order of the tars."""
        count = len(self._views)
        # Made from the position, because two images with the same bytes are still two groups.
        ids = [id_of(f"{index}".encode()) for index in range(count)]
        classes, labels = class_indices(pa.chunked_array([self._labels], pa.string()))
        return GroupTable(
            url=self.url,
            classes=classes,
            labels=labels,
            ids=np.array(ids, dtype=np.int64),
            num_views=np.ones(count, dtype=np.int32),
            has_caption=np.array([caption != "" for caption in self._captions]),
        )

    has_latents = False
    reads_at_once = 1

    def read(self, group: int, chosen: Sequence[int]) -> StoredGroup:
        return StoredGroup(views=[self._views[group]], caption=self._captions[group])


def _text(members: Mapping[str, bytes], suffix: str) -> str:
    return members.get(suffix, b"").decode("utf-8", "replace").strip()
