"""One rank's part of one step, as a pure function of the step: what the loader's workers run."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from manifests.foundation.errors import SynthError
from trainer.data.crops import AugmentConfig, cut, draw_crop
from trainer.data.decoding import decode
from trainer.data.draws import generator
from trainer.data.groups import GroupTable
from trainer.data.order import GroupOrder, Place
from trainer.data.sources import Source, StoredView
from trainer.errors import CorruptViewError

MAX_SUBSTITUTES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """What a step consists of."""

    num_groups: int
    """Groups of a step over all ranks."""
    views_per_group: int
    crops_per_view: int
    reads_captions: bool
    input_px: int
    seed: int
    augment: AugmentConfig
    allows_bad_groups: bool
    """Put another group in the place of one that cannot be read, and count it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One rank's groups of a step. Rows are group-major, then views, then crops."""

    step: int
    images: Tensor
    """uint8 [rows, 3, input_px, input_px]."""
    colours: Tensor
    """float32 [rows, colour fields]: what is still to be done to each crop."""
    ids: Tensor
    """int64 [groups]."""
    views: NDArray[np.int64]
    """View index of each row's view, [groups, views]."""
    captions: list[str]
    bad: list[str]
    """Why groups were replaced."""

    def pin_memory(self) -> "Batch":
        return Batch(
            step=self.step,
            images=self.images.pin_memory(),
            colours=self.colours.pin_memory(),
            ids=self.ids.pin_memory(),
            views=self.views,
            captions=self.captions,
            bad=self.bad,
        )


class Batches(Dataset[Batch | Exception]):
    """Step to batch. Errors come back as values: they cross from a worker in one line."""

    def __init__(
        self,
        source: Source,
        table: GroupTable,
        config: BatchConfig,
        *,
        rank: int,
        world: int,
    ) -> None:
        self._source = source
        self._table = table
        self._config = config
        self._part = rank, world
        self._order = GroupOrder(table.shards, seed=config.seed, batch_groups=config.num_groups)

    def __getitem__(self, step: int) -> Batch | Exception:
        try:
            return self._batch(step)
        except SynthError as exc:
            return exc

    def _batch(self, step: int) -> Batch:
        rank, world = self._part
        config = self._config
        images, colours, ids, indices, captions, bad = [], [], [], [], [], []
        for place in self._order.part(step, rank=rank, world=world):
            place, views, told = self._read(place)
            bad += told
            ids.append(int(self._table.ids[place.entry]))
            indices.append([view.view_index for view, _ in views])
            captions.append(self._caption(place))
            for view, pixels in views:
                for crop in range(config.crops_per_view):
                    rng = generator(
                        "crop", config.seed, *place.seeds(), ids[-1], view.view_index, crop
                    )
                    draw = draw_crop(rng, config.augment)
                    images.append(cut(pixels, draw, config.input_px))
                    colours.append(draw.colours)
        return Batch(
            step=step,
            images=torch.stack(images),
            colours=torch.from_numpy(np.stack(colours)),
            ids=torch.tensor(ids),
            views=np.array(indices),
            captions=captions,
            bad=bad,
        )

    def _read(
        self, place: Place
    ) -> tuple[Place, list[tuple[StoredView, NDArray[np.uint8]]], list[str]]:
        """The views of a group, or of the group that replaces it, and why it does."""
        told: list[str] = []
        first = place
        while True:
            try:
                return place, self._views(place), told
            except CorruptViewError as exc:
                if not self._config.allows_bad_groups or len(told) == MAX_SUBSTITUTES:
                    raise
                told.append(str(exc))
            # A function of what it replaces alone, so every rank and every resume takes the same.
            rng = generator("substitute", self._config.seed, first.epoch, first.entry, len(told))
            entry = int(rng.integers(len(self._table)))
            place = Place(epoch=first.epoch, entry=entry, instead_of=first.entry)

    def _views(self, place: Place) -> list[tuple[StoredView, NDArray[np.uint8]]]:
        table, entry = self._table, place.entry
        found = self._source.read(
            int(table.shards[entry]), int(table.first_rows[entry]), self._choose(place)
        )
        return [(view, self._decode(view)) for view in found]

    def _choose(self, place: Place) -> Sequence[int]:
        """Which good views of a group, without replacement, in the order drawn."""
        if (only := int(self._table.only_views[place.entry])) >= 0:
            return [only]
        num_views = int(self._table.num_views[place.entry])
        rng = generator(
            "views", self._config.seed, *place.seeds(), int(self._table.ids[place.entry])
        )
        chosen: list[int] = rng.permutation(num_views)[: self._config.views_per_group].tolist()
        return chosen

    def _decode(self, view: StoredView) -> NDArray[np.uint8]:
        pixels = decode(view.data, where=view.where)
        if view.size_px is not None and pixels.shape[:2] != view.size_px[::-1]:
            width, height = view.size_px
            raise CorruptViewError(
                f"{view.where}: {pixels.shape[1]}x{pixels.shape[0]} px, its manifest says "
                f"{width}x{height}; run `synth verify`"
            )
        return pixels

    def _caption(self, place: Place) -> str:
        if not self._config.reads_captions:
            return ""
        table = self._table
        return self._source.caption(
            int(table.shards[place.entry]), int(table.first_rows[place.entry])
        )


def load(
    batches: Batches, steps: range, *, num_workers: int, pin_memory: bool = False
) -> Iterator[Batch]:
    """The batches of some steps in order; any number of workers gives the same ones.

    Raises:
        TrainerError, ContractError: What a worker met, in its place in the order.
    """
    loader: DataLoader[Batch | Exception] = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_begin_worker if num_workers else None,
        prefetch_factor=4 if num_workers else None,
        generator=torch.Generator(),  # the loader draws a seed; not from the global generator
    )
    for found in loader:
        if isinstance(found, Exception):
            raise found
        yield found


def _begin_worker(worker: int) -> None:
    """A signal to the whole group of processes is the training's to answer, with a checkpoint."""
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(kind, signal.SIG_IGN)
