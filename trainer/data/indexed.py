"""The stream of a source that has an index: which group comes when, and which of its views."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manifests.errors import ContractError
from manifests.latents import decode_latent
from trainer.data.decoding import decode
from trainer.data.draws import generator
from trainer.data.groups import Entries, GroupTable
from trainer.data.order import GroupOrder, Turn
from trainer.data.sources import Demand, Group, UnreadableGroup, View
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGroup:
    """What was asked for of one group."""

    views: Sequence[StoredView]
    caption: str
    """Empty if it has none."""


class GroupReader(Protocol):
    """Reads the groups of a table; several threads may do so at once."""

    @property
    def has_latents(self) -> bool:
        """Whether the stored views have latents."""

    @property
    def reads_at_once(self) -> int:
        """Groups that are worth reading at the same time; 1 where nobody waits for a network."""

    def read(self, group: int, chosen: Sequence[int]) -> StoredGroup:
        """The chosen views of a group, by number among its good ones. Raises CorruptViewError."""
        ...


class IndexedStream:
    """Groups in the order of `GroupOrder`, each with views that are drawn without replacement.

    Args:
        reader: Reads what the table points to.
        table: All groups of the source.
        demand: What every step is to hold.

    Raises:
        DataError: No group meets the demand.
    """

    def __init__(self, reader: GroupReader, table: GroupTable, demand: Demand) -> None:
        if "latents" in demand.reads and not reader.has_latents:
            raise DataError(
                f"{table.url}: its rows keep no latents to learn from; generate it with "
                "--renderer latent-neighbourhood --set renderer.keep_latents=true"
            )
        self._num_views = table.num_views
        self._entries = Entries(table, demand)
        self.num_left_out = self._entries.num_left_out
        self.num_groups = len(self._entries)
        self.classes = self._entries.classes
        self._reader = reader
        self._demand = demand
        self._order = GroupOrder(self.num_groups, seed=demand.seed, batch_groups=demand.num_groups)

    def groups(self, step: int, *, rank: int, world: int) -> list[Group]:
        turns = self._order.part(step, rank=rank, world=world)
        readers = min(self._reader.reads_at_once, len(turns))
        if readers == 1:
            return [self._group(turn) for turn in turns]
        # Threads of this call alone: those of a process do not survive a fork.
        with ThreadPoolExecutor(readers, thread_name_prefix="read") as pool:
            return [*pool.map(self._group, turns)]

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
                group = self._entries.id(turn.entry)
                replaced.append(UnreadableGroup(id=group, reason=str(exc)))
            # Drawn from the turn alone, so every rank and every resumed run takes the same group.
            rng = generator(
                "substitute", self._demand.seed, scheduled.epoch, scheduled.entry, len(replaced)
            )
            entry = int(rng.integers(len(self._entries)))
            turn = Turn(epoch=scheduled.epoch, entry=entry, instead_of=scheduled.entry)

    def _read(self, turn: Turn, replaced: Sequence[UnreadableGroup]) -> Group:
        entries, reads = self._entries, self._demand.reads
        stored = self._reader.read(entries.group(turn.entry), self._choose(turn))
        return Group(
            id=entries.id(turn.entry),
            turn=turn.numbers(),
            views=[_view(view, with_latent="latents" in reads) for view in stored.views],
            caption=stored.caption if "captions" in reads else "",
            label=entries.label(turn.entry),
            replaced=tuple(replaced),
        )

    def _choose(self, turn: Turn) -> list[int]:
        """Which good views of a group are taken, in the order drawn."""
        entries, entry = self._entries, turn.entry
        if (only := entries.view(entry)) >= 0:
            return [only]
        rng = generator("views", self._demand.seed, *turn.numbers(), entries.id(entry))
        order = rng.permutation(int(self._num_views[entries.group(entry)]))
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
