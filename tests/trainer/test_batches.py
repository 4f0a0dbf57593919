"""What the loader gives: the same groups, views and pixels, whoever loads them."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manifests.foundation.errors import ConfigError
from manifests.plan import ViewRequest
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from tests.picture_sets import make_picture_set, png, without_index
from tests.sets import begin, commit, refused, scales, size, views_of
from trainer.data.augment import AugmentConfig, CropSet
from trainer.data.batches import (
    MOST_WORKERS,
    Batches,
    LoadedBatch,
    default_workers,
    load,
    require_shared_memory,
)
from trainer.data.crops import BOX_FIELDS, COLOUR_FIELDS
from trainer.data.groups import Entries
from trainer.data.shard_sets import ShardSetSource
from trainer.data.sources import Demand
from trainer.errors import CorruptViewError

NUM_STEPS = 7
CAPTIONS = frozenset({"captions"})


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sets") / "set"
    make_picture_set(folder)
    return str(folder)


def batches(url: str, *, rank: int = 0, world: int = 1, views: int = 3, **changes: Any) -> Batches:
    values = {"seed": 3, "num_groups": 8, "views_per_group": views, "reads": CAPTIONS}
    demand = Demand(**values | changes)
    stream = ShardSetSource(url).stream(demand)
    crops = CropSet(count=1, input_px=12, augment=AugmentConfig())
    return Batches(stream, [crops], seed=demand.seed, rank=rank, world=world)


def joined(parts: list[LoadedBatch]) -> dict[str, Any]:
    """One step over all ranks."""
    return {
        "ids": torch.cat([part.ids for part in parts]).tolist(),
        "views": np.concatenate([part.views for part in parts]).tolist(),
        "captions": [caption for part in parts for caption in part.captions],
        "images": torch.cat([part.images[0] for part in parts]).numpy().tobytes(),
        "colours": np.concatenate([part.colours[0] for part in parts]).tobytes(),
    }


@pytest.fixture(scope="module")
def expected(url: str) -> list[dict[str, Any]]:
    return [joined([batch]) for batch in load(batches(url), range(NUM_STEPS), num_workers=0)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # 3 workers, 2 cores
@pytest.mark.parametrize(
    ("world", "num_workers"),
    [(world, workers) for world in (1, 2, 4) for workers in (0, 1, 3)] + [(8, 0)],
)
def test_steps_are_the_same_for_any_ranks_and_workers(
    url: str, expected: list[dict[str, Any]], world: int, num_workers: int
) -> None:
    """Eight ranks are more than the set has shards."""
    ranks = [
        load(batches(url, rank=rank, world=world), range(NUM_STEPS), num_workers=num_workers)
        for rank in range(world)
    ]
    steps = [joined(list(parts)) for parts in zip(*ranks, strict=True)]
    assert steps == expected


def test_views_of_several_sizes_become_crops_of_one(tmp_path: Path) -> None:
    sizes = [size(16, 16), size(24, 16), size(16, 30)]
    shards = begin(
        tmp_path / "set",
        [f"thing number {index}" for index in range(8)],
        views_per_subject=3,
        variations=scales(1.0, 2.0, 3.0),
        sizes=sizes,
        **sizes[0],
    )

    def striped(request: ViewRequest) -> bytes:
        """Its columns are 0, 10, 20 and on, so a crop shows which part of the width it has."""
        sides = sizes[request.view_index]
        row = np.arange(sides["width_px"], dtype=np.uint8) * 10
        return png(np.broadcast_to(row[:, None], (sides["height_px"], len(row), 3)).copy())

    for shard in range(shards.layout.num_shards):
        commit(shards, shard, views=views_of(shards, shard, striped))
    seal_set(shards)
    (batch,) = load(batches(str(tmp_path / "set"), num_groups=4), range(1), num_workers=0)
    crops, boxes = batch.images[0], batch.boxes[0]
    assert crops.shape[-3:] == (3, 12, 12)
    left, _, width, _ = boxes.reshape(-1, 4).T
    middles = crops.reshape(-1, 3, 12, 12).float().mean(dim=(1, 2, 3))
    widths = torch.tensor([sizes[view]["width_px"] for view in batch.views.flatten().tolist()])
    expected = 10 * (widths * (left + width / 2) - 0.5)
    torch.testing.assert_close(middles, expected, atol=1.0, rtol=0)


@pytest.mark.parametrize("first", [1, 4, 6])
def test_resumed_loading_goes_on_in_mid_epoch_on_other_ranks(
    url: str, expected: list[dict[str, Any]], first: int
) -> None:
    ranks = [
        load(batches(url, rank=rank, world=2), range(first, NUM_STEPS), num_workers=1)
        for rank in range(2)
    ]
    assert [joined(list(parts)) for parts in zip(*ranks, strict=True)] == expected[first:]


def test_views_are_drawn_without_replacement_and_anew_each_epoch(url: str) -> None:
    drawn: dict[int, list[tuple[int, ...]]] = {}
    for batch in load(batches(url, num_groups=12), range(4), num_workers=0):
        for group, views in zip(batch.ids.tolist(), batch.views.tolist(), strict=True):
            drawn.setdefault(group, []).append(tuple(views))
    assert len(drawn) == 12
    for views in drawn.values():
        assert all(len(set(numbers)) == 3 for numbers in views)
        assert len(views) == 4
    assert len({views for draws in drawn.values() for views in draws}) > 10


def test_failed_views_are_never_drawn(url: str) -> None:
    failed = [row for row in ShardSet.open(url).manifest(0).rows if not row.is_ok]
    assert len(failed) == 1
    for batch in load(batches(url), range(6), num_workers=0):
        for group, views in zip(batch.ids.tolist(), batch.views.tolist(), strict=True):
            assert group != failed[0].group_id or failed[0].view_index not in views


def test_groups_with_too_few_good_views_are_left_out(url: str) -> None:
    table = ShardSetSource(url).table()
    assert len(table) == 12
    for views, count in ((4, 11), (3, 12)):
        entries = Entries(table, Demand(seed=0, num_groups=1, views_per_group=views))
        assert (len(entries), entries.num_left_out) == (count, 12 - count)


def test_split_groups_are_single_good_views(url: str) -> None:
    demand = Demand(seed=0, num_groups=1, views_per_group=1, splits_groups=True)
    entries = Entries(ShardSetSource(url).table(), demand)
    assert len(entries) == 47  # one of 48 failed
    ids = {entries.id(entry) for entry in range(47)}
    assert len(ids) == 47
    assert [entries.group(entry) for entry in (0, 3, 4, 46)] == [0, 0, 1, 11]
    batch = batches(url, views=1, splits_groups=True)[0]
    assert isinstance(batch, LoadedBatch)
    assert batch.views.shape == (8, 1)
    assert set(batch.ids.tolist()) <= ids


def test_crop_sets_differ_in_number_size_and_colours(url: str) -> None:
    stream = ShardSetSource(url).stream(Demand(seed=3, num_groups=4, views_per_group=2))
    grey = AugmentConfig(grey_prob=1.0, crop_scale=(0.1, 0.2))
    crops = [
        CropSet(count=2, input_px=12, augment=AugmentConfig()),
        CropSet(count=3, input_px=8, augment=grey),
    ]
    batch = Batches(stream, crops, seed=3, rank=0, world=1)[0]
    assert isinstance(batch, LoadedBatch)
    assert [tuple(images.shape) for images in batch.images] == [(16, 3, 12, 12), (24, 3, 8, 8)]
    is_grey = COLOUR_FIELDS.index("grey")
    assert bool((batch.colours[1][:, is_grey] == 1).all())
    width, height = (BOX_FIELDS.index(side) for side in ("width", "height"))
    areas = batch.boxes[1][:, width] * batch.boxes[1][:, height]
    assert 0.05 < float(areas.min()) <= float(areas.max()) < 0.3
    assert len({tuple(box) for box in batch.boxes[1].tolist()}) > 12


def test_first_crop_set_does_not_depend_on_those_after_it(url: str) -> None:
    def first(*counts: int) -> bytes:
        stream = ShardSetSource(url).stream(Demand(seed=3, num_groups=4, views_per_group=2))
        crops = [CropSet(count=count, input_px=12, augment=AugmentConfig()) for count in counts]
        batch = Batches(stream, crops, seed=3, rank=0, world=1)[0]
        assert isinstance(batch, LoadedBatch)
        return batch.images[0].numpy().tobytes()

    assert first(2) == first(2, 5)


def test_other_seed_other_crops(url: str, expected: list[dict[str, Any]]) -> None:
    other = joined(list(load(batches(url, seed=4), range(1), num_workers=0)))
    assert other["images"] != expected[0]["images"]
    assert other["ids"] != expected[0]["ids"]


def test_caption_belongs_to_its_group(url: str) -> None:
    rows = [row for shard in range(4) for row in ShardSet.open(url).manifest(shard).rows]
    captions = {row.group_id: row.text for row in rows}
    for batch in load(batches(url), range(3), num_workers=0):
        assert batch.captions == [captions[group] for group in batch.ids.tolist()]


def damaged(tmp_path: Path) -> tuple[str, str]:
    """A set with one flipped bit in a picture, and the key of that view."""
    shards = make_picture_set(tmp_path / "set")
    row = shards.manifest(2).rows[5]
    tar = tmp_path / "set" / shards.layout.tar(2)
    data = bytearray(tar.read_bytes())
    data[row.offset + row.length // 2] ^= 1
    tar.write_bytes(data)
    return str(tmp_path / "set"), row.key


@pytest.mark.parametrize("num_workers", [0, 1])
def test_changed_view_is_named_and_fatal(tmp_path: Path, num_workers: int) -> None:
    url, key = damaged(tmp_path)
    with refused(CorruptViewError, "data/000002.tar", key, "synth verify", "max_bad_groups"):
        list(load(batches(url, views=4), range(3), num_workers=num_workers))


def test_missing_tar_is_named(tmp_path: Path) -> None:
    url, _ = damaged(tmp_path)
    Path(url, "data/000002.tar").unlink()
    with refused(CorruptViewError, "data/000002.tar", "gone"):
        list(load(batches(url, views=4), range(3), num_workers=0))


def test_bad_groups_are_replaced_alike_on_any_ranks(tmp_path: Path) -> None:
    url, key = damaged(tmp_path)
    options = {"views": 4, "replaces_unreadable": True}
    alone = list(load(batches(url, **options), range(6), num_workers=0))
    replaced = [group for batch in alone for group in batch.replaced]
    assert len({group.id for group in replaced}) == 1
    assert all(key in group.reason for group in replaced)
    ranks = [
        load(batches(url, rank=rank, world=4, **options), range(6), num_workers=0)
        for rank in range(4)
    ]
    steps = [joined(list(parts)) for parts in zip(*ranks, strict=True)]
    assert steps == [joined([batch]) for batch in alone]


def test_a_set_without_an_index_gives_the_same_batches(url: str, tmp_path: Path) -> None:
    """As it was sealed before there was one: its manifests are read."""
    shutil.copytree(url, tmp_path / "older")
    without_index(tmp_path / "older")
    older = batches(str(tmp_path / "older"))
    for step in range(3):
        expected, batch = batches(url)[step], older[step]
        assert isinstance(expected, LoadedBatch)
        assert isinstance(batch, LoadedBatch)
        assert torch.equal(batch.images[0], expected.images[0])
        assert torch.equal(batch.ids, expected.ids)
        assert batch.captions == expected.captions


def test_no_manifest_is_read(url: str, tmp_path: Path) -> None:
    shutil.copytree(url, tmp_path / "set")
    shutil.rmtree(tmp_path / "set" / "manifests")
    assert isinstance(batches(str(tmp_path / "set"))[0], LoadedBatch)


def test_default_workers_leave_a_core_to_each_rank_and_fit_into_shared_memory() -> None:
    cores = len(os.sched_getaffinity(0))
    assert default_workers(1, sharing=1) == min(cores - 1, MOST_WORKERS)
    assert default_workers(1, sharing=cores) == default_workers(1, sharing=2 * cores) == 0
    assert default_workers(1 << 50, sharing=1) == 0


def test_batches_that_have_no_room_in_shared_memory_are_refused() -> None:
    require_shared_memory(1, "less of it")
    with refused(ConfigError, "/dev/shm", "batches take 1,125,899,906,842,624", "--shm-size"):
        require_shared_memory(1 << 50, "less of it")
