"""Several sources as one, in exact shares: rendered views beside real ones, or two sets."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from manifests.canonical import hash_json
from manifests.foundation.errors import ConfigError
from manifests.foundation.files import local_path
from manifests.foundation.settings import Table, check, read_settings
from trainer.addresses import beside
from trainer.data.draws import generator
from trainer.data.opening import SOURCES, open_source
from trainer.data.sources import NO_LABEL, Demand, Group, GroupStream, Source
from trainer.data.tar_reads import READS_AT_ONCE
from trainer.errors import DataError


class Part(Table):
    """One of the tables [[sources]]."""

    url: str
    """Address of a source, as `synth train` takes it; a path is relative to the file."""
    weight: int = Field(default=1, ge=1, le=1000)
    """Of `sum of all weights` groups so many are from here."""


class MixtureConfig(Table):
    """A file of a mixture."""

    sources: tuple[Part, ...] = Field(min_length=2)


class Mixture:
    """`mix:FILE`, a TOML file with a table [[sources]] for each source. See Source.

    Raises:
        ConfigError: The file is no mixture.
        DataError: A source cannot be opened.
    """

    def __init__(self, place: str) -> None:
        path = local_path(place, option="source")
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; give mix:FILE, a TOML file with [[sources]]")
        tree = read_settings(recipe=path, overrides=(), flags={})
        config = check(MixtureConfig, tree, origin=str(path))
        self.url = f"mix:{Path(path)}"
        urls = [
            beside(path.parent, part.url, SOURCES, option="sources.url") for part in config.sources
        ]
        self._sources: list[Source] = [open_source(url) for url in urls]
        self._weights = [part.weight for part in config.sources]

    @property
    def root(self) -> str:
        """Hash of what the streams of all sources hold, and of their shares."""
        roots = [source.root for source in self._sources]
        return hash_json([list(pair) for pair in zip(roots, self._weights, strict=True)])

    def stream(self, demand: Demand) -> GroupStream:
        """Endless: its sources come to their ends at different times.

        Raises:
            DataError: A source has no group, or a step takes more of one than it has.
        """
        one = replace(demand, num_groups=1)  # a step of a part is one group
        parts = [source.stream(one) for source in self._sources]
        stream = MixedStream(parts, self._weights, demand)
        most = stream.most_groups()
        if most is not None and most < demand.num_groups:
            raise DataError(
                f"{self.url}: a step takes {demand.num_groups} groups, and in the shares of the "
                f"sources they have {most}; give --batch-groups {most} or less, or other weights"
            )
        return stream


class MixedStream:
    """Groups of several streams. Among as many groups as the weights add up to, each stream has as
    many as its weight says, in an order that is drawn for each such cycle."""

    num_groups = None

    def __init__(
        self, parts: Sequence[GroupStream], weights: Sequence[int], demand: Demand
    ) -> None:
        self._parts = parts
        self._weights = weights
        self._demand = demand
        self.num_left_out = sum(part.num_left_out for part in parts)
        self.classes = tuple(sorted({name for part in parts for name in part.classes}))
        number = {name: index for index, name in enumerate(self.classes)}
        self._labels = [[number[name] for name in part.classes] for part in parts]

    def most_groups(self) -> int | None:
        """Most groups of a step of which none has to repeat another; None without a bound."""
        limits = []
        for part, weight in zip(self._parts, self._weights, strict=True):
            # A mixture in a mixture has no end either, and yet a bound.
            available = part.most_groups() if isinstance(part, MixedStream) else part.num_groups
            if available is not None:
                limits.append(available * sum(self._weights) // weight)
        return min(limits, default=None)

    def groups(self, step: int, *, rank: int, world: int) -> list[Group]:
        count = self._demand.num_groups // world
        first = step * self._demand.num_groups + rank * count
        with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="mix") as pool:
            return [*pool.map(self._group, range(first, first + count))]

    def _group(self, position: int) -> Group:
        cycle, place = divmod(position, sum(self._weights))
        order = self._order(cycle)
        part = int(order[place])
        number = cycle * self._weights[part] + int((order[:place] == part).sum())
        (group,) = self._parts[part].groups(number, rank=0, world=1)
        label = group.label if group.label == NO_LABEL else self._labels[part][group.label]
        # One subject may be in several sources, and is to have other crops in each.
        return replace(group, turn=(*group.turn, part), label=label)

    def _order(self, cycle: int) -> NDArray[np.int64]:
        """Which stream each group of a cycle is from."""
        parts = np.repeat(np.arange(len(self._weights)), self._weights)
        return generator("mixture", self._demand.seed, cycle).permutation(parts)
