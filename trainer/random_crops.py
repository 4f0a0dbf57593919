"""Features of random crops: a split is read and encoded anew, on all ranks, when rank 0 asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.augment import AugmentConfig
from trainer.data.crops import COLOUR_FIELDS, cut, draw_crop
from trainer.data.draws import generator
from trainer.distributed import rank, world_size
from trainer.errors import DataError
from trainer.features import GATHER_TIMEOUT, Crops, Features, extract
from trainer.frozen_encoders import FrozenEncoder
from trainer.labelled_sets import LabelledImage, Split

_FLIP = COLOUR_FIELDS.index("flip")


def random_crop(
    image: LabelledImage,
    pixels: NDArray[np.uint8],
    *,
    augment: AugmentConfig,
    seed: int,
    epoch: int,
    input_px: int,
) -> NDArray[np.uint8]:
    """A resized crop of an image, mirrored or not: uint8 [input_px, input_px, 3].

    What is drawn depends on the seed, the epoch and the key of the image alone, so neither on its
    place in the set nor on the number of ranks.
    """
    key = int.from_bytes(sha256(image.key.encode()).digest()[:8], "little", signed=True)
    draw = draw_crop(generator("probe", seed, epoch, key), augment)
    crop = cut(pixels, draw, input_px)[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(crop[:, ::-1] if draw.colours[_FLIP] else crop)


@contextmanager
def crops_of(
    split: Split, encoder: FrozenEncoder, features: Features, *, batch_size: int, num_threads: int
) -> Iterator[Crops | None]:
    """Crops of a split, of which rank 0 may ask for as many epochs as it likes.

    Collective: the other ranks work for rank 0 until it leaves the block, and enter theirs only
    then, with None.

    Args:
        features: Those of the split, whose images have to be the same in every epoch.

    Raises:
        DataError: As `extract` raises it, or the set was changed since its features were made.
    """

    group: Any = None
    if world_size() > 1:
        group = dist.new_group(backend="gloo", timeout=GATHER_TIMEOUT)

    def make(augment: AugmentConfig, seed: int, epoch: int) -> Tensor:
        def crop(image: LabelledImage, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return random_crop(
                image,
                pixels,
                augment=augment,
                seed=seed,
                epoch=epoch,
                input_px=encoder.input_px,
            )

        again = extract(
            split,
            encoder,
            batch_size=batch_size,
            num_threads=num_threads,
            crop=crop,
            title=f"crops of {split.name}, epoch {epoch + 1}",
            group=group,  # one for all epochs: each holds a socket to every rank
        )
        if (again.keys, again.digests) != (features.keys, features.digests):
            raise DataError(
                f"{split.where}: has other images than before; leave it alone meanwhile"
            )
        return again.values

    if world_size() == 1:
        yield make
        return
    if rank():
        while (order := _from_rank_0(None, group)) is not None:
            make(*order)
        yield None
        return
    has_failed = False

    def together(augment: AugmentConfig, *, seed: int, epoch: int) -> Tensor:
        nonlocal has_failed
        _from_rank_0((augment, seed, epoch), group)
        try:
            return make(augment, seed, epoch)
        except Exception:  # then all ranks have failed, and none of them listens any more
            has_failed = True
            raise

    try:
        yield together
    finally:
        if not has_failed:
            _from_rank_0(None, group)


def _from_rank_0(
    order: tuple[AugmentConfig, int, int] | None, group: Any
) -> tuple[AugmentConfig, int, int] | None:
    """What rank 0 asks for, on all ranks; None is the end."""
    box = [order]
    dist.broadcast_object_list(box, src=0, group=group)
    return box[0]
