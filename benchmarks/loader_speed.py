"""The loader beside plain WebDataset, at 256 px: images a second of CPU time, one thread.

    python -m benchmarks.loader_speed [--rounds 5]

Plain is `wds.WebDataset(tar).decode("pil").map(torchvision transforms)`, as the documentation of
WebDataset shows it, on the same tar that the loader reads. There are three comparisons: the weak
augmentations (crop, flip, normalise); those of StableRep (with jitter, grey and blur); and the weak
ones with 6 of the 10 views of a group, where plain decodes all ten.

The loader gives uint8 crops, and the trainer colours whole batches on the device. Both parts are
timed: the loader alone, and the sum, which is the cost where the device is this CPU.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torchvision import transforms as T

from benchmarks import machine
from manifests.commit import Expected, commit_shard
from manifests.ids import group_id
from manifests.plan import hash_subjects
from manifests.recipe import Identity
from manifests.rows import SubjectRow, ViewRow
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.tars import View, write_tar
from tests.sets import Listed
from trainer.data.augment import AugmentConfig, CropSet
from trainer.data.batches import Batches
from trainer.data.colours import colour
from trainer.data.shard_sets import ShardSetSource
from trainer.data.sources import Demand

PROMPTS, VIEWS, SIZE_PX, INPUT_PX = 20, 10, 256, 224
WEAK = AugmentConfig(jitter_prob=0, grey_prob=0, blur_prob=0)
STRONG = AugmentConfig()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(seed: int) -> bytes:
    """A JPEG of quality 95 and about 30 kB, with detail at every scale."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((SIZE_PX, SIZE_PX, 3))
    for cells in (2, 4, 8, 16, 32, 64, 128):
        noise = rng.normal(size=(cells, cells, 3)).clip(-3, 3) * 30 + 128
        layer = Image.fromarray(noise.astype(np.uint8)).resize((SIZE_PX, SIZE_PX), Image.BICUBIC)
        pixels += (np.asarray(layer, dtype=np.float64) - 128) * cells**-0.25
    buffer = io.BytesIO()
    Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8)).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


def make_set(folder: Path) -> ShardSet:
    """A sealed set of one shard, each view a `picture`."""
    texts = [f"thing {index}" for index in range(PROMPTS)]
    subjects = [
        SubjectRow(group_index=i, group_id=group_id("caption", text), kind="caption", text=text)
        for i, text in enumerate(texts)
    ]
    size = dict.fromkeys(("render_width_px", "render_height_px", "width_px", "height_px"), SIZE_PX)
    identity = Identity(
        dataset_seed=0,
        views_per_subject=VIEWS,
        variations=[{}],
        num_subjects=PROMPTS,
        subjects_per_shard=PROMPTS,
        subjects_sha256=hash_subjects(subjects, ()),
        renderer="noise",
        renderer_identity={},
        model="noise",
        revision="",
        format="jpg",
        **size,
    )
    plan = Listed(subjects, ())
    shards = ShardSet.begin(open_store(str(folder)), identity, plan, environment={})
    views = []
    for request in shards.requests(0):
        image = picture(request.seed)
        row = ViewRow(
            key=request.key,
            group_id=request.subject.group_id,
            view_index=request.view_index,
            status="ok",
            reason="",
            kind="caption",
            text=request.subject.text,
            label="",
            licence="",
            source="",
            renderer="noise",
            model="noise",
            revision="",
            seed=request.seed,
            format="jpg",
            sha256=sha256(image).hexdigest(),
            **size,
        )
        views.append(View(row=row, image=image))
    tar = folder / "scratch.tar"
    with tar.open("wb") as file:
        write_tar(file, views, recipe_sha256=shards.recipe_sha256, shard=0)
    expected = Expected.of(shards.recipe, 0, [view.row.key for view in views])
    commit_shard(shards.store, shards.layout, expected, tar)
    tar.unlink()
    seal_set(shards)
    return shards


def plain(folder: Path, augment: AugmentConfig) -> Iterator[torch.Tensor]:
    """Crops as a user of WebDataset would make them, float32 [3, 224, 224]."""
    import webdataset as wds

    colours = [
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        T.RandomGrayscale(p=0.2),
        T.RandomApply([T.GaussianBlur(13, (0.1, 2.0))], p=0.5),
    ]
    transform = T.Compose(
        [
            T.RandomResizedCrop(INPUT_PX, scale=(0.08, 1.0)),
            *(colours if augment.jitter_prob else []),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ]
    )
    url = str(folder / "data" / "000000.tar")
    stream = wds.WebDataset(url, shardshuffle=False, empty_check=False).decode("pil")
    for (image,) in stream.to_tuple("jpg"):
        yield transform(image)


def ours(folder: Path, augment: AugmentConfig, views: int) -> Batches:
    """The trainer's loader: two groups a batch."""
    demand = Demand(seed=0, num_groups=2, views_per_group=views)
    stream = ShardSetSource(str(folder)).stream(demand)
    crops = CropSet(count=1, input_px=INPUT_PX, augment=augment)
    return Batches(stream, [crops], seed=0, rank=0, world=1)


def rate_plain(folder: Path, augment: AugmentConfig, used: float = 1.0) -> float:
    """Images a second of CPU time, of which a part is counted.

    Args:
        used: Part of the decoded images that a training would use.
    """
    start = time.process_time()
    count = sum(1 for _ in plain(folder, augment))
    return used * count / (time.process_time() - start)


def rates_ours(folder: Path, augment: AugmentConfig, views: int = VIEWS) -> tuple[float, float]:
    """Images a second of CPU time: of the loader alone, and with colours and normalisation."""
    start = time.process_time()
    batches = ours(folder, augment, views)
    mean = torch.tensor(MEAN).view(1, 3, 1, 1) * 255
    std = torch.tensor(STD).view(1, 3, 1, 1) * 255
    host, device = time.process_time() - start, 0.0
    count = 0
    for step in range(PROMPTS // 2):
        start = time.process_time()
        batch = batches[step]
        host += time.process_time() - start
        assert not isinstance(batch, Exception)
        start = time.process_time()
        # As `normalize` of the trainer does it, in one step on pixels from 0 to 255.
        (colour(batch.images[0], batch.colours[0]) - mean) / std
        device += time.process_time() - start
        count += len(batch.images[0])
    return count / host, count / (host + device)


@click.command()
@click.option("--rounds", default=5)
def main(rounds: int) -> None:
    """Print one table."""
    torch.set_num_threads(1)
    print(machine.describe())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "set"
        make_set(folder)
        size = (folder / "data" / "000000.tar").stat().st_size / PROMPTS / VIEWS
        print(
            f"{PROMPTS * VIEWS} JPEGs of {SIZE_PX} px, {size / 1e3:.0f} kB each, {rounds} rounds\n"
        )
        print(
            "| recipe | plain, img/s | plain again | loader, uint8 | ratio | with colours | ratio |"
        )
        print("|---|---|---|---|---|---|---|")
        compare("weak: crop, flip, normalise", folder, WEAK, rounds)
        compare("StableRep's", folder, STRONG, rounds)
        compare("weak, 6 of 10 views used", folder, WEAK, rounds, views=6)


def compare(
    name: str, folder: Path, augment: AugmentConfig, rounds: int, views: int = VIEWS
) -> None:
    """Print a line of the table: medians of rounds after a warm-up, ratios with their range.

    Plain runs before and after the loader in each round; how far the two differ is the noise.
    """
    rate_plain(folder, augment)
    rates_ours(folder, augment, views)
    baseline: Callable[[], float] = lambda: rate_plain(folder, augment, views / VIEWS)  # noqa: E731
    rows = []
    for _ in range(rounds):
        first = baseline()
        host, whole = rates_ours(folder, augment, views)
        rows.append((first, baseline(), host, whole))
    columns = [statistics.median(column) for column in zip(*rows, strict=True)]
    ratios = [sorted(row[i] / ((row[0] + row[1]) / 2) for row in rows) for i in (2, 3)]
    host_ratio, whole_ratio = (
        f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"
        for values in ratios
    )
    print(
        f"| {name} | {columns[0]:,.0f} | {columns[1]:,.0f} | {columns[2]:,.0f} | {host_ratio} | "
        f"{columns[3]:,.0f} | {whole_ratio} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
