"""The index of an indexed source: which groups it has. Every rank builds the same one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from trainer.data.sources import NO_LABEL
from trainer.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTable:
    """Groups in the order of the set; 29 bytes each, so ten million of them fit anywhere.

    All arrays are [groups].
    """

    url: str
    classes: tuple[str, ...]
    """The distinct labels of the whole set, in alphabetical order."""
    ids: NDArray[np.int64]
    """Group ids: groups with equal ids are positives of each other."""
    shards: NDArray[np.int32]
    """Shard that holds the group."""
    first_rows: NDArray[np.int32]
    """First row of the group in the manifest of its shard."""
    num_views: NDArray[np.int32]
    """Good views of the group."""
    only_views: NDArray[np.int32]
    """If this entry is a single view: its number among the good views of its group; else -1."""
    has_caption: NDArray[np.bool_]
    labels: NDArray[np.int32]
    """Index into `classes`; NO_LABEL for a group without one."""

    def __len__(self) -> int:
        return len(self.ids)

    def with_views(self, fewest: int) -> "GroupTable":
        """The groups with at least so many good views.

        Raises:
            DataError: There is none.
        """
        kept = self._take(self.num_views >= fewest)
        if not len(kept):
            most = int(self.num_views.max(initial=0))
            raise DataError(
                f"{self.url}: no group has {fewest} good views, the largest has {most}; give "
                f"--views-per-group {max(most, 1)} or less, or render more views of each group"
            )
        return kept

    def with_captions(self) -> "GroupTable":
        """The groups that have a caption.

        Raises:
            DataError: There is none.
        """
        kept = self._take(self.has_caption)
        if not len(kept):
            raise DataError(
                f"{self.url}: has no captions to learn from; train with --objective stablerep or "
                "simclr"
            )
        return kept

    def with_labels(self) -> "GroupTable":
        """The groups that have a label.

        Raises:
            DataError: There is none.
        """
        kept = self._take(self.labels != NO_LABEL)
        if not len(kept):
            raise DataError(
                f"{self.url}: has no labels to learn from; generate it from captions with a label "
                "column, or choose an objective that needs none, such as stablerep"
            )
        return kept

    def with_ids_as_labels(self) -> "GroupTable":
        """The groups with their ids for labels: groups of one id are one class."""
        ids, labels = np.unique(self.ids, return_inverse=True)
        return replace(self, classes=tuple(map(str, ids.tolist())), labels=labels.astype(np.int32))

    def split(self) -> "GroupTable":
        """Each good view as a group of its own, with an id of its own.

        Example: a group with 3 good views becomes 3 entries whose `only_views` are 0, 1 and 2.
        """
        parents = np.repeat(np.arange(len(self)), self.num_views)
        starts = np.cumsum(self.num_views) - self.num_views
        views = (np.arange(len(parents)) - starts[parents]).astype(np.int32)
        pairs = np.stack([self.ids[parents], views.astype(np.int64)], axis=1)
        ids = [id_of(pair.tobytes()) for pair in pairs]
        return replace(
            self._take(parents),
            ids=np.array(ids, dtype=np.int64),
            num_views=np.ones(len(parents), dtype=np.int32),
            only_views=views,
        )

    def _take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "GroupTable":
        return GroupTable(
            url=self.url,
            classes=self.classes,
            ids=self.ids[rows],
            shards=self.shards[rows],
            first_rows=self.first_rows[rows],
            num_views=self.num_views[rows],
            only_views=self.only_views[rows],
            has_caption=self.has_caption[rows],
            labels=self.labels[rows],
        )


def id_of(content: bytes) -> int:
    """A group id made from content, for groups without one. It has 63 bits, to fit into int64."""
    return int.from_bytes(blake2b(content, digest_size=8).digest()) >> 1


def class_indices(labels: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The distinct labels that are not empty, in alphabetical order, and the index of each label.

    Example: class_indices(["b", "", "a", "b"]) has the classes ("a", "b") and indices 1, -1, 0, 1.
    """
    classes = tuple(sorted({label for label in labels if label}))
    index = {label: number for number, label in enumerate(classes)}
    return classes, np.array([index.get(label, NO_LABEL) for label in labels], dtype=np.int32)
