"""Crops that are drawn from ids: the same for any number of ranks, and asked for by rank 0."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.labelled_sets import encoded, write_tar
from tests.sets import refused
from trainer.data.augment import AugmentConfig
from trainer.errors import DataError
from trainer.features import extract
from trainer.frozen_encoders import FrozenEncoder
from trainer.labelled_sets import LabelledImage, open_labelled
from trainer.random_crops import crops_of, random_crop
from trainer.testing.ranks import run_ranks

WEAK = AugmentConfig(crop_scale=(0.2, 1.0))


def encode(images: Tensor) -> Tensor:
    return images.flatten(1).float() / 255


ENCODER = FrozenEncoder(name="toy", encode=encode, input_px=8, facts={})


def make_set(root: Path, *, num_images: int = 9) -> str:
    rng = np.random.default_rng(0)
    members: dict[str, bytes] = {}
    for position in range(num_images):
        pixels = rng.integers(0, 256, (12, 20, 3)).astype(np.uint8)
        members[f"{position}.png"] = encoded(pixels, "png")
        members[f"{position}.cls"] = str(position % 2).encode()
    write_tar(root / "train/0.tar", members)
    return f"wds:{root}"


def two_epochs(on: str, seed: int = 1) -> Tensor | None:
    """Features of two epochs, [2, images, features], on rank 0."""
    split = open_labelled(on).split("train")
    features = extract(split, ENCODER, batch_size=4)
    with crops_of(split, ENCODER, features, batch_size=4, num_threads=2) as crops:
        if crops is None:
            return None
        return torch.stack([crops(WEAK, seed=seed, epoch=epoch) for epoch in range(2)])


def test_every_epoch_and_seed_has_crops_of_its_own(tmp_path: Path) -> None:
    on = make_set(tmp_path)
    first = two_epochs(on)
    assert first is not None
    again, other = two_epochs(on), two_epochs(on, seed=2)
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_crop_depends_on_the_key_and_not_on_the_place() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)
    crop = partial(random_crop, augment=WEAK, seed=0, epoch=0, input_px=8)

    def image(key: str) -> LabelledImage:
        return LabelledImage(key=key, position=(0,), data=b"", label=0, group=key)

    assert np.array_equal(crop(image("0/7"), pixels), crop(image("0/7"), pixels))
    assert not np.array_equal(crop(image("0/7"), pixels), crop(image("0/8"), pixels))


def test_half_of_the_crops_are_mirrored_and_areas_are_as_asked() -> None:
    # Columns that grow from left to right: a crop shows its width, and whether it is mirrored.
    pixels = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3)).copy()
    augment = AugmentConfig(crop_scale=(0.25, 0.25), crop_ratio=(1.0, 1.0))
    mirrored = 0
    for number in range(300):
        image = LabelledImage(key=str(number), position=(number,), data=b"", label=0, group="")
        crop = random_crop(image, pixels, augment=augment, seed=0, epoch=0, input_px=50)
        first, last = (int(crop[25, column, 0]) for column in (0, -1))
        assert abs(first - last) == pytest.approx(98, abs=2)
        mirrored += first > last
    assert 120 < mirrored < 180
    never = AugmentConfig(flip_prob=0)
    image = LabelledImage(key="x", position=(0,), data=b"", label=0, group="")
    crop = random_crop(image, pixels, augment=never, seed=0, epoch=0, input_px=50)
    assert crop[25, 0, 0] < crop[25, -1, 0]


def _rank(rank: int, world: int, on: str, out: str) -> None:
    values = two_epochs(on)
    assert (values is None) == (rank > 0)
    if values is not None:
        torch.save(values, out)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_ranks_has_the_crops_of_one(tmp_path: Path, world: int) -> None:
    on = make_set(tmp_path / "set")
    run_ranks(_rank, world, on, str(tmp_path / "crops.pt"))
    expected = two_epochs(on)
    assert expected is not None
    assert torch.equal(torch.load(tmp_path / "crops.pt", weights_only=True), expected)


def _broken(rank: int, world: int, on: str) -> None:
    split = open_labelled(on).split("train")
    features = extract(split, ENCODER, batch_size=4)
    broken = replace(ENCODER, encode=lambda images: encode(images) * float("nan"))
    with (
        refused(DataError, "features that are not finite"),
        crops_of(
            split, broken if rank else ENCODER, features, batch_size=4, num_threads=1
        ) as crops,
    ):
        assert crops is not None
        crops(WEAK, seed=0, epoch=0)
    dist.barrier()  # all ranks go on together


@pytest.mark.slow
def test_fault_of_one_rank_ends_all_with_its_message(tmp_path: Path) -> None:
    run_ranks(_broken, 2, make_set(tmp_path))


def test_set_that_was_changed_is_refused(tmp_path: Path) -> None:
    on = make_set(tmp_path)
    features = extract(open_labelled(on).split("train"), ENCODER, batch_size=4)
    make_set(tmp_path, num_images=10)
    split = open_labelled(on).split("train")
    with crops_of(split, ENCODER, features, batch_size=4, num_threads=1) as crops:
        assert crops is not None
        with refused(DataError, "has other images than before"):
            crops(WEAK, seed=0, epoch=0)
