"""Which groups a set has for training: the index that every rank builds alike."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTable:
    """Groups in the order of the set; 25 bytes each, so ten million fit anywhere."""

    url: str
    ids: NDArray[np.int64]
    """Group ids: equal ids are mutual positives."""
    shards: NDArray[np.int32]
    """Shard that holds the group."""
    first_rows: NDArray[np.int32]
    """First row of the group in its shard's manifest."""
    num_views: NDArray[np.int32]
    """Good views of the group."""
    only_views: NDArray[np.int32]
    """The one good view that this entry stands for, counted among the good ones; -1 for all."""
    has_caption: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def with_views(self, fewest: int) -> "GroupTable":
        """The groups with at least so many good views.

        Raises:
            DataError: There is none.
        """
        kept = self._take(np.flatnonzero(self.num_views >= fewest))
        if not len(kept):
            most = int(self.num_views.max(initial=0))
            raise DataError(
                f"{self.url}: no group has {fewest} good views, the largest has {most}; give "
                f"--views-per-prompt {max(most, 1)} or less, or render more images per prompt"
            )
        return kept

    def with_captions(self) -> "GroupTable":
        """The groups that have a caption.

        Raises:
            DataError: There is none.
        """
        kept = self._take(np.flatnonzero(self.has_caption))
        if not len(kept):
            raise DataError(
                f"{self.url}: has no captions to learn from; train with --objective stablerep or "
                "simclr"
            )
        return kept

    def split(self) -> "GroupTable":
        """Each good view as a group of its own, with an id of its own."""
        parents = np.repeat(np.arange(len(self)), self.num_views)
        starts = np.cumsum(self.num_views) - self.num_views
        views = (np.arange(len(parents)) - starts[parents]).astype(np.int32)
        pairs = np.stack([self.ids[parents], views.astype(np.int64)], axis=1)
        ids = [
            int.from_bytes(blake2b(pair.tobytes(), digest_size=8).digest()) >> 1 for pair in pairs
        ]
        return GroupTable(
            url=self.url,
            ids=np.array(ids, dtype=np.int64),
            shards=self.shards[parents],
            first_rows=self.first_rows[parents],
            num_views=np.ones(len(parents), dtype=np.int32),
            only_views=views,
            has_caption=self.has_caption[parents],
        )

    def _take(self, rows: NDArray[np.int64]) -> "GroupTable":
        return GroupTable(
            url=self.url,
            ids=self.ids[rows],
            shards=self.shards[rows],
            first_rows=self.first_rows[rows],
            num_views=self.num_views[rows],
            only_views=self.only_views[rows],
            has_caption=self.has_caption[rows],
        )
