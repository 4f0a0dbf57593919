"""The stream of a source that has an index: which group comes when, and which of its views."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manifests.errors import ContractError
from manifests.latents import decode_latent
from trainer.data.decoding import decode
from trainer.data.draws import generator
from trainer.data.groups import GroupTable
from trainer.data.order import GroupOrder, Turn
from trainer.data.sources import NO_LABEL, Demand, Group, UnreadableGroup, View
from trainer.errors import CorruptViewError, DataError

MAX_SUBSTITUTES = 100
"""Groups that are tried in place of one that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredView:
    """The encoded bytes of one view, checked by their hash where there is one."""

    data: bytes
    where: str
    """Tar and key, for messages."""
    size_px: tuple[int, int] | None
    """Width and height that its manifest promises, if there is one."""
    view_index: int
    latent: str = ""
    """As its row keeps it; empty if there is none."""


class GroupReader(Protocol):
    """Reads the groups of an index. A group is named by its shard and its first row there."""

    @property
    def has_latents(self) -> bool:
        """Whether the stored views have latents."""

    def read(self, shard: int, first_row: int, chosen: Sequence[int]) -> list[StoredView]:
        """The chosen views of a group, by number among its good ones. Raises CorruptViewError."""
        ...

    def caption(self, shard: int, first_row: int) -> str:
        """What the group depicts; empty if it has no caption."""
        ...


class IndexedStream:
    """Groups in the order of `GroupOrder`, each with views that are drawn without replacement.

    Args:
        reader: Reads what the table points to.
        all_groups: All groups of the source.
        demand: What every step is to hold.

    Raises:
        DataError: No group meets the demand.
    """

    def __init__(self, reader: GroupReader, all_groups: GroupTable, demand: Demand) -> None:
        table = all_groups
        if "captions" in demand.reads:
            table = table.with_captions()
        if "labels" in demand.reads:
            table = table.with_labels()
        if "latents" in demand.reads and not reader.has_latents:
            raise DataError(
                f"{all_groups.url}: its rows keep no latents to learn from; generate it with "
                "--renderer latent-neighbourhood --set renderer.keep_latents=true"
            )
        table = table.with_views(demand.views_per_group)
        if "group_labels" in demand.reads:  # last, so that a group that is left out is no class
            table = table.with_ids_as_labels()
        self.num_left_out = len(all_groups) - len(table)  # in groups: counted before the split
        self._table = table.split() if demand.splits_groups else table
        self.num_groups = len(self._table)
        self._has_labels = bool(demand.reads & {"labels", "group_labels"})
        self.classes = self._table.classes if self._has_labels else ()
        self._reader = reader
        self._demand = demand
        self._order = GroupOrder(
            self._table.shards, seed=demand.seed, batch_groups=demand.num_groups
        )

    def groups(self, step: int, *, rank: int, world: int) -> list[Group]:
        return [self._group(turn) for turn in self._order.part(step, rank=rank, world=world)]

    def _group(self, scheduled: Turn) -> Group:
        """The group whose turn it is, or a readable group in place of it."""
        turn = scheduled
        replaced: list[UnreadableGroup] = []
        while True:
            try:
                return self._read(turn, replaced)
            except CorruptViewError as exc:
                if not self._demand.replaces_unreadable or len(replaced) == MAX_SUBSTITUTES:
                    raise
                group = int(self._table.ids[turn.entry])
                replaced.append(UnreadableGroup(id=group, reason=str(exc)))
            # Drawn from the turn alone, so every rank and every resumed run takes the same group.
            rng = generator(
                "substitute", self._demand.seed, scheduled.epoch, scheduled.entry, len(replaced)
            )
            entry = int(rng.integers(len(self._table)))
            turn = Turn(epoch=scheduled.epoch, entry=entry, instead_of=scheduled.entry)

    def _read(self, turn: Turn, replaced: Sequence[UnreadableGroup]) -> Group:
        table, entry, reads = self._table, turn.entry, self._demand.reads
        shard, first_row = int(table.shards[entry]), int(table.first_rows[entry])
        stored = self._reader.read(shard, first_row, self._choose(turn))
        return Group(
            id=int(table.ids[entry]),
            turn=turn.numbers(),
            views=[_view(view, with_latent="latents" in reads) for view in stored],
            caption=self._reader.caption(shard, first_row) if "captions" in reads else "",
            label=int(table.labels[entry]) if self._has_labels else NO_LABEL,
            replaced=tuple(replaced),
        )

    def _choose(self, turn: Turn) -> list[int]:
        """Which good views of a group are taken, in the order drawn."""
        table, entry = self._table, turn.entry
        if (only := int(table.only_views[entry])) >= 0:
            return [only]
        rng = generator("views", self._demand.seed, *turn.numbers(), int(table.ids[entry]))
        order = rng.permutation(int(table.num_views[entry]))
        chosen: list[int] = order[: self._demand.views_per_group].tolist()
        return chosen


def _view(view: StoredView, *, with_latent: bool) -> View:
    try:
        latent = decode_latent(view.latent) if with_latent else None
    except ContractError as exc:
        raise CorruptViewError(f"{view.where}: {exc}; run `synth verify`") from exc
    return View(pixels=_pixels(view), index=view.view_index, latent=latent)


def _pixels(view: StoredView) -> NDArray[np.uint8]:
    pixels = decode(view.data, where=view.where)
    if view.size_px is not None and pixels.shape[:2] != view.size_px[::-1]:
        width, height = view.size_px
        raise CorruptViewError(
            f"{view.where}: {pixels.shape[1]}x{pixels.shape[0]} px, its manifest says "
            f"{width}x{height}; run `synth verify`"
        )
    return pixels
