"""What a training asks of its data: groups of views, a step at a time, wherever they come from.

A sealed shard set (`shard_sets`) and plain tars (`tars`) are sources. A source needs neither tables
nor shards: a renderer that makes views while the training runs can be one, as one file with one
class. The laws, which `trainer.testing.sources.SourceLaws` tests for every source of this package:

1. `groups` is a pure function of its arguments. Calls may come in any order and in any process.
2. The parts of all ranks, one after the other, are the groups that a single rank receives.
3. Every group has exactly `Demand.views_per_group` views, each of them once.
4. Two sources with the same `root` answer the same demand with the same groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

NO_LABEL = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Where a source may keep, on a disk of this machine, what it reads again in every epoch."""

    folder: Path
    max_bytes: int
    """All that is kept there takes no more, for any number of sources and processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a training wants of every step."""

    seed: int
    """Decides the order of the groups and which views are taken."""
    num_groups: int
    """Groups of a step, over all ranks."""
    views_per_group: int
    splits_groups: bool = False
    """Each view is a group of its own, with an id of its own."""
    reads: frozenset[str] = frozenset()
    """Of `captions`, `labels`, `group_labels` and `latents`. Groups that lack a caption or label
    that is read are left out; `group_labels` makes each distinct id a label."""
    replaces_unreadable: bool = False
    """Give another group in place of one that cannot be read, instead of raising."""
    cache: Cache | None = None
    """Decides where groups are read from, and never which; None keeps nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One decoded image."""

    pixels: NDArray[np.uint8]
    """RGB, [height, width, 3]."""
    index: int
    """Number of the view in its group; crops are drawn from it."""
    latent: NDArray[np.float32] | None = None
    """What a generator made it from, [dimensions]; None unless the demand reads latents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableGroup:
    """A group that another one replaces."""

    id: int
    reason: str
    """One line that names file and view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Views that are positives of each other, with what is known about them."""

    id: int
    """Groups with equal ids are positives of each other too; signed 64 bits."""
    turn: tuple[int, ...]
    """Differs for every occurrence of the group, so that each occurrence has crops of its own."""
    views: Sequence[View]
    caption: str = ""
    """Empty unless the demand reads captions."""
    label: int = NO_LABEL
    """Index into `GroupStream.classes`; NO_LABEL unless the demand reads labels of a kind."""
    replaced: Sequence[UnreadableGroup] = ()
    """Groups that were tried before this one."""


class GroupStream(Protocol):
    """The groups of all steps, as one demand wants them."""

    @property
    def num_groups(self) -> int | None:
        """Groups of an epoch; None for an endless stream, which has no epochs."""

    @property
    def num_left_out(self) -> int:
        """Groups of the source that do not meet the demand."""

    @property
    def classes(self) -> Sequence[str]:
        """Distinct labels in order; empty unless the demand reads labels of a kind."""

    def groups(self, step: int, *, rank: int, world: int) -> list[Group]:
        """The groups of one rank in a step that is counted from 0; `world` divides the step.

        Raises:
            CorruptViewError: A view cannot be read and its group may not be replaced.
        """
        ...


class Source(Protocol):
    """Groups of views under one URL."""

    @property
    def url(self) -> str:
        """Where it is, for messages; without secrets."""

    @property
    def root(self) -> str:
        """Hash of everything that decides what a stream holds; first asked for where ranks may take
        as long as they need."""

    def stream(self, demand: Demand) -> GroupStream:
        """The groups that meet a demand. Raises DataError if none does."""
        ...
