"""What is known of the groups of an indexed source before any of them is read."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.data.sources import NO_LABEL, Demand
from trainer.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTable:
    """Groups in the order of the source; every rank has the same ones. All arrays are [groups]."""

    url: str
    classes: tuple[str, ...]
    """The distinct labels of the whole source, in alphabetical order."""
    ids: NDArray[np.int64]
    """Group ids: groups with equal ids are positives of each other."""
    num_views: NDArray[np.int32]
    """Good views of the group."""
    has_caption: NDArray[np.bool_]
    labels: NDArray[np.int32]
    """Index into `classes`; NO_LABEL for a group without one."""

    def __len__(self) -> int:
        return len(self.ids)


class Entries:
    """The groups of a table that meet a demand, or each of their views as a group of its own.

    Raises:
        DataError: None does.
    """

    def __init__(self, table: GroupTable, demand: Demand) -> None:
        kept = self._meets(table, demand)
        self.num_left_out = len(table) - int(kept.sum())
        self._table = table
        # Nothing is held for a table that is taken whole: it may have ten million groups.
        self._kept = None if kept.all() else np.flatnonzero(kept)
        self._ends: NDArray[np.int64] | None = None
        self._only_view = -1
        if demand.splits_groups:
            num_views = table.num_views[kept]
            if num_views.max() == 1:
                self._only_view = 0  # then an entry is a group, and nothing need be held
            else:
                self._ends = np.cumsum(num_views, dtype=np.int64)
        self._labels: NDArray[np.int32] | None = None
        self.classes: tuple[str, ...] = ()
        if "group_labels" in demand.reads:  # after the choice: a group that is left out is no class
            ids, labels = np.unique(table.ids[kept], return_inverse=True)
            self.classes, self._labels = tuple(map(str, ids.tolist())), labels.astype(np.int32)
        elif "labels" in demand.reads:
            self.classes = table.classes
            self._labels = table.labels if self._kept is None else table.labels[kept]

    @staticmethod
    def _meets(table: GroupTable, demand: Demand) -> NDArray[np.bool_]:
        """Which groups have what is read of them, and views enough."""
        kept = np.ones(len(table), dtype=np.bool_)
        if "captions" in demand.reads:
            kept &= table.has_caption
            if not kept.any():
                raise DataError(
                    f"{table.url}: has no captions to learn from; train with --objective stablerep "
                    "or simclr"
                )
        if "labels" in demand.reads:
            kept &= table.labels != NO_LABEL
            if not kept.any():
                raise DataError(
                    f"{table.url}: has no labels to learn from; generate it from captions with a "
                    "label column, or choose an objective that needs none, such as stablerep"
                )
        fewest = demand.views_per_group
        most = int(table.num_views[kept].max(initial=0))
        kept &= table.num_views >= fewest
        if not kept.any():
            raise DataError(
                f"{table.url}: no group has {fewest} good views, the largest has {most}; give "
                f"--views-per-group {max(most, 1)} or less, or render more views of each group"
            )
        return kept

    def __len__(self) -> int:
        if self._ends is not None:
            return int(self._ends[-1])
        return len(self._table) if self._kept is None else len(self._kept)

    def _place(self, entry: int) -> tuple[int, int]:
        """The entry's group among those that are kept, and its view there; -1 for all views."""
        if self._ends is None:
            return entry, self._only_view
        place = int(np.searchsorted(self._ends, entry, side="right"))
        return place, entry - (int(self._ends[place - 1]) if place else 0)

    def group(self, entry: int) -> int:
        """Row of the table."""
        place, _ = self._place(entry)
        return place if self._kept is None else int(self._kept[place])

    def view(self, entry: int) -> int:
        """The only view of the entry, among the good ones of its group; -1 for a whole group."""
        return self._place(entry)[1]

    def id(self, entry: int) -> int:
        """Id of the group, or of the view if each is a group of its own."""
        group, view = int(self._table.ids[self.group(entry)]), self.view(entry)
        return group if view < 0 else id_of(np.array([group, view], dtype=np.int64).tobytes())

    def label(self, entry: int) -> int:
        """Index into `classes`; NO_LABEL where labels are not read."""
        return NO_LABEL if self._labels is None else int(self._labels[self._place(entry)[0]])


def id_of(content: bytes) -> int:
    """A group id made from content, for groups without one. It has 63 bits, to fit into int64."""
    return int.from_bytes(blake2b(content, digest_size=8).digest()) >> 1


def class_indices(labels: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The distinct labels that are not empty, in alphabetical order, and the index of each label.

    Example: the labels "b", "", "a", "b" have the classes ("a", "b") and indices 1, -1, 0, 1.
    """
    classes = tuple(sorted(set(pc.unique(labels).to_pylist()) - {""}))
    indices = pc.index_in(labels, value_set=pa.array(classes, pa.string()))
    return classes, pc.fill_null(indices, NO_LABEL).to_numpy().astype(np.int32)
