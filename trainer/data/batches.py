"""From a step to the crops of one rank: what the loader's workers run."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from manifests.foundation.errors import ConfigError, SynthError
from trainer.data.augment import CropSet
from trainer.data.crops import cut, draw_crop
from trainer.data.draws import generator
from trainer.data.sources import GroupStream, UnreadableGroup, View
from trainer.errors import DataError

MOST_WORKERS = 10
"""Loader processes of a rank where the recipe does not say how many; StableRep's has ten."""
_SHARED = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBatch:
    """One rank's groups of a step, as a loader worker hands them on.

    Images and draws have one tensor for each crop set. Their rows are group-major, then views, then
    crops.
    """

    step: int
    images: tuple[Tensor, ...]
    """uint8 [crops, 3, input_px, input_px] each."""
    colours: tuple[NDArray[np.float32], ...]
    """[crops, colour fields] each: the changes that `colours.colour` still has to make. No tensors,
    because the host reads them at every step."""
    boxes: tuple[Tensor, ...]
    """float32 [crops, 4] each: `BOX_FIELDS` of every crop."""
    ids: Tensor
    """int64 [groups]."""
    labels: Tensor
    """int64 [groups]; NO_LABEL where labels are not read."""
    captions: list[str]
    """One for each group; empty texts where captions are not read."""
    latents: Tensor
    """float32 [views of all groups, dimensions]; no dimension where latents are not read."""
    views: NDArray[np.int64]
    """Number of each view in its group, [groups, views]."""
    replaced: list[UnreadableGroup]
    """Groups that could not be read."""

    def pin_memory(self) -> "LoadedBatch":
        """In memory from which a GPU copies by itself; the loader calls this."""
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> "LoadedBatch":
        """With its tensors on a device; the copy may still be under way."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> "LoadedBatch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if isinstance(value, Tensor):
                values[name] = change(value)
            elif isinstance(value, tuple) and isinstance(value[0], Tensor):
                values[name] = tuple(map(change, value))
        return LoadedBatch(**values)


class Batches(Dataset[LoadedBatch | Exception]):
    """Maps a step to its batch: a pure function of the step.

    A `SynthError` is returned and not raised, because torch would wrap the traceback of a worker
    around it; `load` raises it in the process that trains.

    Args:
        seed: Decides the crops.
    """

    def __init__(
        self, stream: GroupStream, crops: Sequence[CropSet], *, seed: int, rank: int, world: int
    ) -> None:
        self._stream = stream
        self._crops = tuple(crops)
        self._seed = seed
        self._part = rank, world

    def __getitem__(self, step: int) -> LoadedBatch | Exception:
        try:
            return self._batch(step)
        except SynthError as exc:
            return exc

    def _batch(self, step: int) -> LoadedBatch:
        rank, world = self._part
        images: list[list[Tensor]] = [[] for _ in self._crops]
        colours: list[list[NDArray[np.float32]]] = [[] for _ in self._crops]
        boxes: list[list[NDArray[np.float32]]] = [[] for _ in self._crops]
        groups = self._stream.groups(step, rank=rank, world=world)
        for group in groups:
            for view in group.views:
                # Crops are counted over all crop sets, so that no two of a view share a draw.
                number = 0
                for index, crops in enumerate(self._crops):
                    for _ in range(crops.count):
                        rng = generator(
                            "crop", self._seed, *group.turn, group.id, view.index, number
                        )
                        draw = draw_crop(rng, crops.augment)
                        image, box = cut(view.pixels, draw, crops.input_px)
                        images[index].append(image)
                        colours[index].append(draw.colours)
                        boxes[index].append(box)
                        number += 1
        return LoadedBatch(
            step=step,
            images=tuple(torch.stack(part) for part in images),
            colours=tuple(np.stack(part) for part in colours),
            boxes=tuple(torch.from_numpy(np.stack(part)) for part in boxes),
            ids=torch.tensor([group.id for group in groups]),
            labels=torch.tensor([group.label for group in groups]),
            captions=[group.caption for group in groups],
            latents=_latents([view for group in groups for view in group.views]),
            views=np.array([[view.index for view in group.views] for group in groups]),
            replaced=[unreadable for group in groups for unreadable in group.replaced],
        )


def _latents(views: Sequence[View]) -> Tensor:
    latents = [view.latent for view in views if view.latent is not None]
    if not latents:
        return torch.zeros(len(views), 0)
    if len({len(latent) for latent in latents}) > 1 or len(latents) < len(views):
        raise DataError("latents of one batch differ in their length; render the set anew")
    return torch.from_numpy(np.stack(latents))


def load(
    batches: Batches,
    steps: range,
    *,
    num_workers: int,
    prefetch: int = 4,
    pin_memory: bool = False,
) -> Generator[LoadedBatch, None, None]:
    """The batches of some steps in order; any number of workers gives the same ones.

    Closing the iterator ends the workers.

    Args:
        num_workers: Loader processes; 0 loads in this one.
        prefetch: Batches that each of them holds ready.

    Raises:
        SynthError: What a worker met, at the step at which it met it.
    """
    loader: DataLoader[LoadedBatch | Exception] = DataLoader(
        batches,
        batch_size=None,  # an item of `batches` is a whole batch already
        sampler=steps,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_signals if num_workers else None,
        prefetch_factor=prefetch if num_workers else None,
        generator=torch.Generator(),  # the loader draws a seed; not from the global generator
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


def default_workers(num_bytes: int, *, sharing: int) -> int:
    """Loader processes of a rank that are as many as the machine allows, and MOST_WORKERS at most.

    Each has a core to itself, and so has the rank.

    Args:
        num_bytes: Held in shared memory on this machine where each rank has one of them.
        sharing: Number of ranks that share the cores of this one.
    """
    cores = len(os.sched_getaffinity(0)) // sharing - 1
    room = _free_shared_bytes() // max(num_bytes, 1)
    return max(0, min(MOST_WORKERS, cores, room))


def require_shared_memory(num_bytes: int, advice: str) -> None:
    """Refuse to start where the batches of all loader processes have no room.

    A process that finds no room there is ended by the system, without a word about it.

    Args:
        num_bytes: Of all batches that are held ready on this machine.
        advice: What would take less.

    Raises:
        ConfigError: There is less.
    """
    if (free := _free_shared_bytes()) < num_bytes:
        raise ConfigError(
            f"{_SHARED}: {free:,} bytes are free and batches take {num_bytes:,}; give a container "
            f"--shm-size {-(-num_bytes // 2**30) + 1}g, or {advice}"
        )


def _free_shared_bytes() -> int:
    """Without bound where the system has no folder that says it."""
    return shutil.disk_usage(_SHARED).free if _SHARED.is_dir() else sys.maxsize


def _ignore_signals(worker: int) -> None:
    """Leave signals that are sent to the whole process group to the process that trains.

    It writes a checkpoint first and ends its workers then.
    """
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(kind, signal.SIG_IGN)
