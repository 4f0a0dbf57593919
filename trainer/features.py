"""Features of every image of a labelled split, the same for any number of ranks."""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from manifests.foundation.errors import PluginError, SynthError
from manifests.foundation.progress import progress
from trainer.data.augment import AugmentConfig
from trainer.data.decoding import decode
from trainer.errors import DataError
from trainer.evaluation_crop import evaluation_crop
from trainer.frozen_encoders import Encode, FrozenEncoder, HeldAs
from trainer.labelled_sets import LabelledImage, Split

Crop = Callable[[LabelledImage, NDArray[np.uint8]], NDArray[np.uint8]]
GATHER_ROWS = 8192
"""Rows that each rank sends at once."""
GATHER_TIMEOUT = timedelta(hours=1)
"""How much longer than the fastest rank another one may take for its images."""


class Crops(Protocol):
    """Features of random crops of the images of a split, which are read and encoded again."""

    def __call__(
        self, augment: AugmentConfig, *, seed: int, epoch: int
    ) -> Float[Tensor, "images features"]:
        """One crop of each image, in their order; the same for the same arguments.

        Args:
            augment: What is drawn: area, ratio and flip. Colours are left as they are.
            seed: Decides the crops.
            epoch: Likewise.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Features of a split, in the order of its images; on the CPU."""

    values: Float[Tensor, "images features"]
    """As float32, or in half precision if the encoder says so: computations are in float32."""
    labels: Int[Tensor, " images"]
    """-1 for all images of a set of several classes an image, or of captions."""
    groups: tuple[str, ...]
    keys: tuple[str, ...]
    digests: tuple[str, ...]
    """First 16 hex digits of the SHA-256 of each image's bytes."""
    label_sets: tuple[tuple[int, ...], ...] | None = None
    """The classes of each image, in a set of several for an image; None in any other."""
    captions: tuple[tuple[str, ...], ...] | None = None
    """The captions of each image, in a set of captions; None in any other."""
    crops: Crops | None = None
    """Given to evaluations that need it: see Evaluation.needs_crops."""

    def targets(self, num_classes: int) -> Bool[Tensor, "images classes"]:
        """Which classes each image has, in a set of several for an image."""
        assert self.label_sets is not None
        targets = torch.zeros(len(self.label_sets), num_classes, dtype=torch.bool)
        for row, labels in enumerate(self.label_sets):
            targets[row, list(labels)] = True
        return targets

    def group_ids(self) -> Int[Tensor, " images"]:
        """Groups as integers, in the order of their first image."""
        ids: dict[str, int] = {}
        return torch.tensor([ids.setdefault(group, len(ids)) for group in self.groups])

    def fingerprint(self) -> str:
        """SHA-256 of keys, labels, captions, groups and bytes: equal where the images are."""
        rows = list(zip(self.keys, self.labels.tolist(), self.groups, self.digests, strict=True))
        return _fingerprint(rows, self.label_sets, self.captions)


def fingerprint(split: Split) -> str:
    """What `Features.fingerprint` of a split would be, without an encoder: images are read alone.

    Raises:
        DataError: A file or a label is not as the layout says.
    """
    rows = [_Row.of(image) for image in split.images()]
    return _fingerprint(
        [(row.key, row.label, row.group, row.digest) for row in rows], *_texts_and_sets(rows)
    )


def _fingerprint(
    rows: list[tuple[str, int, str, str]],
    label_sets: tuple[tuple[int, ...], ...] | None,
    captions: tuple[tuple[str, ...], ...] | None,
) -> str:
    parts = [part for part in (label_sets, captions) if part is not None]
    return sha256(json.dumps([rows, *parts] if parts else rows).encode()).hexdigest()


def extract(
    split: Split,
    encoder: FrozenEncoder,
    *,
    batch_size: int,
    num_threads: int = 4,
    crop: Crop | None = None,
    title: str = "",
    is_shown: bool = True,
    group: Any = None,
) -> Features:
    """Features of every image of a split.

    Collective if torch.distributed is initialized: ranks share the images, and all end with the
    same rows in the same order. A batch that is not full is filled up with copies of its last
    image: all batches then have one size, and an image has the same features in any of them.

    Args:
        split: Where the images come from.
        encoder: Turns them into features.
        batch_size: Images encoded at once.
        num_threads: Threads that decode and resize; both release the interpreter's lock.
        crop: From an image and its pixels to those that are encoded; `evaluation_crop` if None.
        title: Of the progress.
        is_shown: Whether there is a progress.
        group: Process group over gloo of all ranks; a new one if None.

    Raises:
        DataError: No image, or one that cannot be read, decoded or encoded to finite numbers; on
            all ranks if on one.
    """
    is_shared = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if is_shared else (0, 1)
    rows: list[_Row] = []
    values: list[Tensor] = []
    fault: str | None = None

    def prepare(image: LabelledImage) -> NDArray[np.uint8]:
        pixels = decode(image.data, where=f"{split.where}: {image.key}")
        if crop is not None:
            return crop(image, pixels)
        return evaluation_crop(
            pixels,
            input_px=encoder.input_px,
            crop_fraction=encoder.crop_fraction,
            resampling=encoder.resampling,
            squash=encoder.squash,
            always_resized=encoder.always_resized,
        )

    try:
        title = title or f"features of {split.name}"
        with _progress(split, world, title, is_shown=is_shown and not rank) as (
            on_bytes,
            on_images,
        ):
            images = split.images(rank=rank, world=world, on_bytes=on_bytes)
            for batch, pixels in _prepared(images, prepare, batch_size, num_threads):
                _require_labels(batch, split)
                part = _encoded(encoder.encode, pixels, batch_size, encoder.device)
                part = part.to(getattr(torch, encoder.held_as))
                _require_finite(part, batch, split)
                values.append(part)
                rows += [_Row.of(image) for image in batch]
                on_images(len(batch))
    # The other ranks wait for this one, so its fault is sent to them before it is raised.
    except Exception as exc:
        if not is_shared:
            raise
        fault = str(exc) or type(exc).__name__
        if not isinstance(exc, SynthError):
            logging.getLogger(__name__).exception("features of %s", split.where)
    if is_shared:
        return _gather(split, rows, values, fault, world, encoder.held_as, group)
    if not rows:
        raise DataError(f"{split.where}: no image")
    return _features(torch.cat(values), rows)


@dataclass(frozen=True, slots=True)
class _Row:
    """What is kept of an image besides its features."""

    key: str
    position: tuple[int, ...]
    label: int
    group: str
    digest: str
    labels: tuple[int, ...] | None
    captions: tuple[str, ...]

    @classmethod
    def of(cls, image: LabelledImage) -> "_Row":
        return cls(
            image.key,
            image.position,
            -1 if image.label is None else image.label,
            image.group,
            sha256(image.data).hexdigest()[:16],
            image.labels,
            image.captions,
        )


def _texts_and_sets(
    rows: list[_Row],
) -> tuple[tuple[tuple[int, ...], ...] | None, tuple[tuple[str, ...], ...] | None]:
    """`label_sets` and `captions` of Features."""
    has_sets = any(row.labels is not None for row in rows)
    has_captions = any(row.captions for row in rows)
    return (
        tuple(row.labels or () for row in rows) if has_sets else None,
        tuple(row.captions for row in rows) if has_captions else None,
    )


def _features(values: Tensor, rows: list[_Row]) -> Features:
    label_sets, captions = _texts_and_sets(rows)
    return Features(
        label_sets=label_sets,
        captions=captions,
        values=values,
        labels=torch.tensor([row.label for row in rows]),
        groups=tuple(row.group for row in rows),
        keys=tuple(row.key for row in rows),
        digests=tuple(row.digest for row in rows),
    )


def _prepared(
    images: Iterable[LabelledImage],
    prepare: Callable[[LabelledImage], NDArray[np.uint8]],
    batch_size: int,
    num_threads: int,
) -> Iterator[tuple[list[LabelledImage], list[NDArray[np.uint8]]]]:
    """Batches with their pixels; the next one is prepared while one is used, and no more."""
    images = iter(images)
    ahead: deque[tuple[list[LabelledImage], list[Future[NDArray[np.uint8]]]]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        while True:
            batch = list(islice(images, batch_size))
            if batch:
                ahead.append((batch, [pool.submit(prepare, image) for image in batch]))
            if not ahead:
                return
            if len(ahead) == 2 or not batch:
                done, futures = ahead.popleft()
                yield done, [future.result() for future in futures]


def _encoded(
    encode: Encode, pixels: list[NDArray[np.uint8]], batch_size: int, device: torch.device | str
) -> Tensor:
    filled = pixels + [pixels[-1]] * (batch_size - len(pixels))
    images = torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        features = encode(images.to(device))
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != batch_size:
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise PluginError(f"the encoder gives {shape}, expected one vector for {batch_size} images")
    return features[: len(pixels)].float().cpu()


def _require_labels(batch: list[LabelledImage], split: Split) -> None:
    for image in batch:
        labels = image.labels if image.label is None else (image.label,)
        if labels is None and not image.captions:
            raise DataError(f"{split.where}: {image.key}: neither a label nor a caption")
        for label in labels or ():
            if type(label) is not int or label < 0:
                raise DataError(
                    f"{split.where}: {image.key}: label {label!r:.40}, expected 0 or more"
                )


def _require_finite(values: Tensor, batch: list[LabelledImage], split: Split) -> None:
    finite = values.isfinite().all(dim=1)
    if not finite.all():
        key = batch[int(finite.int().argmin())].key
        raise DataError(
            f"{split.where}: {key}: the encoder gives features that are not finite; it diverged, "
            "its weights are damaged, or float16 is too narrow for it"
        )


@contextmanager
def _progress(
    split: Split, world: int, title: str, *, is_shown: bool
) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """Functions that are called with bytes that are read and with images that are done.

    The number of images in a tar is not known before its end, so the share that is done is that of
    the bytes. The first rank speaks for all, which have about as many images each.
    """
    if not is_shown:
        yield (lambda num_bytes: None), (lambda num_images: None)
        return
    num_read = 0
    with progress(title, "images", None) as advance:

        def on_bytes(num_bytes: int) -> None:
            nonlocal num_read
            num_read += num_bytes

        def on_images(num_images: int) -> None:
            advance(num_images * world, share=num_read / max(split.num_bytes, 1))

        yield on_bytes, on_images


def _gather(
    split: Split,
    rows: list[_Row],
    values: list[Tensor],
    fault: str | None,
    world: int,
    held_as: HeldAs,
    group: Any,
) -> Features:
    """The rows of all ranks in the order of the images, which their positions say."""
    # Features are on the CPU, which NCCL cannot gather from. The timeout allows for slow disks.
    group = group or dist.new_group(backend="gloo", timeout=GATHER_TIMEOUT)
    by_rank: list[tuple[str | None, int, list[_Row]]] = [(None, 0, [])] * world
    own_part = fault, values[0].shape[1] if values else 0, rows
    dtype = getattr(torch, held_as)
    dist.all_gather_object(by_rank, own_part, group=group)
    for fault_of_rank, _, _ in by_rank:
        if fault_of_rank is not None:
            raise DataError(fault_of_rank)
    counts, num_dims = [len(part) for _, _, part in by_rank], max(dims for _, dims, _ in by_rank)
    if not any(counts):
        raise DataError(f"{split.where}: no image")
    local = torch.cat([torch.empty(0, num_dims, dtype=dtype), *values])
    rows = [row for _, _, part in by_rank for row in part]
    gathered = torch.empty(len(rows), num_dims, dtype=dtype)
    order = sorted(range(len(rows)), key=lambda row: rows[row].position)
    places, firsts = torch.tensor(order).argsort(), np.cumsum([0, *counts])
    for start in range(0, max(counts), GATHER_ROWS):
        # All ranks must send equally many rows, so one that has fewer left adds zeros.
        sent = torch.zeros(GATHER_ROWS, num_dims, dtype=dtype)
        chunk = local[start : start + GATHER_ROWS]
        sent[: len(chunk)] = chunk
        received = [torch.empty_like(sent) for _ in range(world)]
        # As bytes: gloo does not know every type of half precision.
        dist.all_gather(
            [part.view(torch.uint8) for part in received], sent.view(torch.uint8), group=group
        )
        for rank, part in enumerate(received):
            count = min(max(counts[rank] - start, 0), GATHER_ROWS)
            gathered[places[firsts[rank] + start :][:count]] = part[:count]
    return _features(gathered, [rows[row] for row in order])
