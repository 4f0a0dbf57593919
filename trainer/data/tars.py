"""WebDataset tars of somebody else as a source: each image is a group of one view.

Such tars have no manifest, so nothing says where an image begins. They are read once, in order, and
the encoded images are kept in memory: a bound is stated, and beyond it the tars are refused.
"""

from collections.abc import Sequence
from hashlib import blake2b, sha256

import numpy as np

from manifests.storage import open_store
from trainer.data.foreign_tars import read_groups
from trainer.data.groups import GroupTable
from trainer.data.sources import StoredView
from trainer.errors import DataError

MAX_BYTES = 8 << 30
"""Encoded images that are kept in memory, over the whole set."""
SUFFIXES = ("jpg", "jpeg", "png", "webp")


class TarSource:
    """All tars directly under a URL, in the order of their names.

    Raises:
        DataError: No tar, a broken one, or more than MAX_BYTES of images.
    """

    def __init__(self, url: str) -> None:
        store = open_store(url)
        self.url = store.url
        self._views: list[StoredView] = []
        self._captions: list[str] = []
        digest, size = sha256(), 0
        tars = [path for path in store.list() if path.endswith(".tar")]
        if not tars:
            raise DataError(f"{self.url}: no *.tar here; give the folder that holds the tars")
        for path in tars:
            for key, members in read_groups(store, path):
                images = [members[each] for each in SUFFIXES if each in members]
                if len(images) != 1:
                    raise DataError(
                        f"{store.at(path)}, {key}: {len(images)} images, expected one with suffix "
                        f"{', '.join(SUFFIXES)}; there are {', '.join(sorted(members))}"
                    )
                (image,) = images
                size += len(image)
                if size > MAX_BYTES:
                    raise DataError(
                        f"{self.url}: more than {MAX_BYTES >> 30} GiB of images, which do not fit "
                        "in memory as tars without manifests have to; train on fewer tars"
                    )
                digest.update(sha256(image).digest())
                view = StoredView(
                    data=image, where=f"{store.at(path)}, {key}", size_px=None, view_index=0
                )
                self._views.append(view)
                self._captions.append(members.get("txt", b"").decode("utf-8", "replace").strip())
                digest.update(self._captions[-1].encode())
        self.root = digest.hexdigest()

    def table(self) -> GroupTable:
        count = len(self._views)
        ids = [
            int.from_bytes(blake2b(f"{index}".encode(), digest_size=8).digest()) >> 1
            for index in range(count)
        ]
        return GroupTable(
            url=self.url,
            ids=np.array(ids, dtype=np.int64),
            shards=np.zeros(count, dtype=np.int32),
            first_rows=np.arange(count, dtype=np.int32),
            num_views=np.ones(count, dtype=np.int32),
            only_views=np.full(count, -1, dtype=np.int32),
            has_caption=np.array([caption != "" for caption in self._captions]),
        )

    def read(self, shard: int, first_row: int, chosen: Sequence[int]) -> list[StoredView]:
        return [self._views[first_row]]

    def caption(self, shard: int, first_row: int) -> str:
        return self._captions[first_row]
