"""Each image is encoded once, as if it were alone, in one order, by any number of ranks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from torch import Tensor

from tests.labelled_sets import encoded, labelled_members, make_folder, make_tars, png, write_tar
from tests.sets import refused
from trainer.errors import CorruptViewError, DataError
from trainer.evaluation_crop import evaluation_crop
from trainer.features import Features, extract
from trainer.frozen_encoders import Encode, FrozenEncoder, HeldAs
from trainer.labelled_sets import open_labelled

pytestmark = pytest.mark.slow

BATCH = 4


def encoder() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten()
        )


def frozen(encode: Encode) -> FrozenEncoder:
    return FrozenEncoder(name="toy", encode=encode, input_px=8, facts={})


def features_of(
    on: str, split: str = "train", *, batch_size: int = BATCH, held_as: HeldAs = "float32"
) -> Features:
    net = encoder()

    def encode(images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        features: Tensor = net(images / 255)
        return features

    held = replace(frozen(encode), held_as=held_as)
    return extract(open_labelled(on).split(split), held, batch_size=batch_size)


def make_set(root: Path) -> str:
    rng = np.random.default_rng(0)
    for tar, count in enumerate((6, 7)):
        members: dict[str, bytes] = {}
        for position in range(count):
            pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            members[f"{position}.png"] = encoded(pixels, "png")
            members[f"{position}.cls"] = str(position % 2).encode()
            members[f"{position}.json"] = b'{"group": %d}' % (position // 2)
        write_tar(root / f"train/{tar}.tar", members)
    return f"wds:{root}"


def test_rows_are_in_the_order_of_the_images(tmp_path: Path) -> None:
    on = make_set(tmp_path)
    features = features_of(on)
    images = list(open_labelled(on).split("train").images())
    assert features.keys == tuple(image.key for image in images)
    assert features.labels.tolist() == [image.label for image in images]
    assert features.group_ids().tolist() == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2, 3]
    assert features.values.dtype == torch.float32
    assert len(set(map(tuple, features.values.tolist()))) == 13


def test_an_image_is_encoded_as_if_it_were_alone(tmp_path: Path) -> None:
    on = make_set(tmp_path)
    whole = features_of(on)
    alone = list(open_labelled(on).split("train").images())
    for row in (0, 5, 12):
        image = alone[row]
        write_tar(tmp_path / f"{row}/train/0.tar", {"x.png": image.data, "x.cls": b"0"})
        assert torch.equal(features_of(f"wds:{tmp_path}/{row}").values[0], whole.values[row])


def test_fingerprint_knows_pixels_labels_and_order(tmp_path: Path) -> None:
    first = features_of(make_tars(tmp_path / "a", train=[[0, 1, 1]]))
    again = features_of(make_tars(tmp_path / "b", train=[[0, 1, 1]]))
    assert first.fingerprint() == again.fingerprint()
    other = features_of(make_tars(tmp_path / "c", train=[[0, 1, 0]]))
    assert first.fingerprint() != other.fingerprint()


def _rank(rank: int, world: int, folder: str, on: str) -> None:
    store = dist.FileStore(f"{folder}/store-{world}", world)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        torch.save(_as_dict(features_of(on)), f"{folder}/{world}-{rank}.pt")
        narrow = features_of(on, held_as="bfloat16")
        torch.save(narrow.values, f"{folder}/{world}-{rank}-narrow.pt")
    except DataError as exc:
        Path(f"{folder}/{world}-{rank}.txt").write_text(str(exc))
    finally:
        dist.destroy_process_group()


def _as_dict(features: Features) -> dict[str, object]:
    names = ("values", "labels", "groups", "keys", "digests")
    return {name: getattr(features, name) for name in names}


@pytest.mark.parametrize("kind", ["wds", "imagefolder"])
def test_two_ranks_have_the_rows_of_one_process(tmp_path: Path, kind: str) -> None:
    on = make_set(tmp_path / "set")
    if kind == "imagefolder":
        on = make_folder(tmp_path / "folder", train={"x": 4, "y": 3})
    one = features_of(on)
    mp.spawn(_rank, args=(2, str(tmp_path), on), nprocs=2)
    for rank in range(2):
        columns = torch.load(tmp_path / f"2-{rank}.pt", weights_only=True)
        assert torch.equal(columns.pop("values"), one.values)
        narrow = torch.load(tmp_path / f"2-{rank}-narrow.pt", weights_only=True)
        assert narrow.dtype == torch.bfloat16
        assert torch.equal(narrow, one.values.bfloat16())
        assert torch.equal(columns.pop("labels"), one.labels)
        assert columns == {name: getattr(one, name) for name in columns}


def test_a_rank_without_an_image_ends_with_the_features_of_all(tmp_path: Path) -> None:
    on = make_tars(tmp_path / "set", train=[[1]])
    mp.spawn(_rank, args=(2, str(tmp_path), on), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f"2-{rank}.pt", weights_only=True)["labels"].tolist() == [1]


def test_fault_of_one_rank_ends_all_with_its_message(tmp_path: Path) -> None:
    members = labelled_members([0, 1, 0]) | {"0003.jpg": b"GIF", "0003.cls": b"1"}
    write_tar(tmp_path / "set/train/0.tar", members)
    mp.spawn(_rank, args=(2, str(tmp_path), f"wds:{tmp_path}/set"), nprocs=2)
    messages = {(tmp_path / f"2-{rank}.txt").read_text() for rank in range(2)}
    assert len(messages) == 1
    assert "train: 0/0003: not a JPEG, PNG or WebP image" in messages.pop()


def test_broken_image_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "train/0.tar", {"0.png": png()[:30], "0.cls": b"0"})
    with refused(CorruptViewError, f"{tmp_path}/train: 0/0: "):
        features_of(f"wds:{tmp_path}")


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    split = open_labelled(make_tars(tmp_path, train=[[0, 1]])).split("train")

    def encode(images: Tensor) -> Tensor:
        return torch.where(images.float().mean((2, 3)) > 0, torch.inf, 0.0)

    with refused(DataError, "train: 000000/0001: the encoder gives features that are not finite"):
        extract(split, frozen(encode), batch_size=2)


@pytest.mark.parametrize("size", [(40, 30), (33, 61), (256, 256), (24, 24), (20, 300)])
@pytest.mark.parametrize("crop_fraction", [1.0, 0.9, 0.875])
def test_crop_is_that_of_timm(size: tuple[int, int], crop_fraction: float) -> None:
    from timm.data.transforms_factory import transforms_imagenet_eval

    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    timm = transforms_imagenet_eval(
        img_size=28, crop_pct=crop_fraction, interpolation="bicubic", use_prefetcher=True
    )
    ours = evaluation_crop(pixels, input_px=28, crop_fraction=crop_fraction)
    if max(size) < 8 * min(size):
        np.testing.assert_array_equal(ours, timm(Image.fromarray(pixels)).permute(1, 2, 0))
    assert ours.shape == (28, 28, 3)


def test_picture_of_the_right_size_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert evaluation_crop(pixels, input_px=32, crop_fraction=0.875) is pixels


def test_line_of_pixels_does_not_grow_without_bound() -> None:
    line = np.zeros((1, 1_000_000, 3), dtype=np.uint8)
    assert evaluation_crop(line, input_px=224, crop_fraction=0.875).shape == (224, 224, 3)
