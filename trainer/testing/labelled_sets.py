"""The laws of labelled sets (`trainer.labelled_sets`) as tests: each subclass tests one kind."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from manifests.foundation.errors import SynthError
from trainer.labelled_sets import LabelledImage, LabelledSet, open_labelled

NUM_CLASSES = 3
SPLITS = {"train": 7, "test": 5}
"""Number of images of each split: no number of ranks divides both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One image that a set is made from."""

    data: bytes
    """The file of the image, a PNG unless a test says otherwise."""
    label: int
    """From 0 to NUM_CLASSES - 1."""


def make_images(count: int, *, seed: int) -> list[StoredImage]:
    """Different images of noise, 8 x 8 px. Labels are dealt in turn, so every class has some."""
    rng = np.random.default_rng(seed)
    images = []
    for position in range(count):
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "png")
        images.append(StoredImage(data=buffer.getvalue(), label=position % NUM_CLASSES))
    return images


class LabelledSetLaws:
    """Set `kind` and implement `write` in a subclass whose name begins with `Test`."""

    kind: ClassVar[str]
    """Name of the kind in the table, or its dotted path."""

    def write(self, folder: Path, splits: Mapping[str, Sequence[StoredImage]]) -> str:
        """Write a set of these splits into an empty folder.

        Args:
            folder: Where to write.
            splits: Images by the name of their split.

        Returns:
            The place of the set: what follows `KIND:` in its address.
        """
        raise NotImplementedError

    @pytest.fixture
    def stored(self) -> dict[str, list[StoredImage]]:
        """The images of each split of the set under test."""
        return {name: make_images(count, seed=count) for name, count in SPLITS.items()}

    @pytest.fixture
    def address(self, tmp_path: Path, stored: Mapping[str, Sequence[StoredImage]]) -> str:
        """The address of the set under test."""
        return f"{self.kind}:{self.write(tmp_path, stored)}"

    def open(self, address: str) -> LabelledSet:
        """The set under test."""
        return open_labelled(address)

    def places(
        self, address: str, *, rank: int = 0, world: int = 1
    ) -> list[tuple[tuple[int, ...], str]]:
        """Position and key of the images of `train` that a rank reads, in order."""
        images = self.open(address).split("train").images(rank=rank, world=world)
        return [(image.position, image.key) for image in images]

    def test_every_split_is_there_and_one_is_tested_on(self, address: str) -> None:
        labelled = self.open(address)
        assert set(labelled.splits) == set(SPLITS)
        assert labelled.test_split() == "test"
        for name, split in labelled.splits.items():
            assert split.name == name
            assert split.where

    def test_bytes_and_labels_come_as_they_were_stored(
        self, address: str, stored: Mapping[str, Sequence[StoredImage]]
    ) -> None:
        labelled = self.open(address)
        assert len(labelled.classes) in (0, NUM_CLASSES)
        for name, split in labelled.splits.items():
            images: list[LabelledImage] = list(split.images())
            assert Counter((image.data, image.label) for image in images) == Counter(
                (image.data, image.label) for image in stored[name]
            )
            assert all(image.group for image in images)

    def test_images_come_in_one_order_each_key_once(self, address: str) -> None:
        keys = [key for _, key in self.places(address)]
        assert keys == [key for _, key in self.places(address)]
        assert len(set(keys)) == len(keys) == SPLITS["train"]

    @pytest.mark.parametrize("world", [1, 2, 3, 9])
    def test_ranks_share_the_images_exactly(self, address: str, world: int) -> None:
        whole = self.places(address)
        assert whole == sorted(set(whole))
        parts = [self.places(address, rank=rank, world=world) for rank in range(world)]
        assert all(part == sorted(part) for part in parts)
        assert sorted(place for part in parts for place in part) == whole

    def test_all_bytes_are_reported(self, address: str) -> None:
        for split in self.open(address).splits.values():
            counts: list[int] = []
            assert list(split.images(on_bytes=counts.append))
            assert sum(counts) == split.num_bytes

    def test_images_are_not_decoded(self, tmp_path: Path) -> None:
        broken = [StoredImage(data=b"no image", label=label) for label in range(NUM_CLASSES)]
        place = self.write(tmp_path, {"train": broken, "test": broken})
        images = list(self.open(f"{self.kind}:{place}").split("train").images())
        assert {sha256(image.data).digest() for image in images} == {sha256(b"no image").digest()}

    def test_a_place_without_a_set_is_refused_in_one_line(self, tmp_path: Path) -> None:
        place = f"{tmp_path / 'nowhere'}"
        with pytest.raises(SynthError) as caught:
            self.open(f"{self.kind}:{place}")
        assert place in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_no_secret_of_a_url_is_shown(self) -> None:
        url = "https://user:SECRET@127.0.0.1:1/x?sig=SECRET"
        with pytest.raises(SynthError) as caught:
            self.open(f"{self.kind}:{url}")
        assert "SECRET" not in str(caught.value)
