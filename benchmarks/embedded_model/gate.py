"""Judge the embedded model: whether it draws what captions say, how varied, and how newly.

    python -m benchmarks.embedded_model.gate

There are three seeds, each with a judge, captions and noise of its own. A judge is trained on real
training glyphs; its accuracy on the held-out halves `select` and `report` is printed. The exit
status is 1 if the views do not meet one of the requirements.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.embedded_model.judge import Judge, real_accuracy, to_tensor, train_judge
from pipeline.embedded import world
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.renderers.text_to_image.config import COLUMNS
from pipeline.testing.requests import requests_for

SEEDS = (0, 1, 2)
SCALES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
CAPTIONS = 100
VIEWS = 8
STEPS = 8
BATCH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of the views of one guidance scale and one seed."""

    digit: float
    """Part of the views in which the judge sees the digit that the caption names; so for colours.
    A caption that does not name a colour is not counted there."""
    ink: float
    ground: float
    diversity: float
    """Mean distance in the judge's features between views of one caption."""
    shapes: float
    """Mean distance between the shapes of the ink, whatever its colours: root mean square, from 0
    to 1."""
    blank: int
    """Number of views with next to no contrast."""


def render(captions: Sequence[str], scale: float, seed: int) -> NDArray[np.uint8]:
    """Views of all captions at one guidance scale, uint8 [captions, views, 32, 32, 3]."""
    requests = requests_for(
        captions,
        columns=COLUMNS,
        variations=[{"guidance_scale": scale}],
        views_per_subject=VIEWS,
        seed=seed,
    )
    renderer = TextToImage(TextToImageConfig(steps=STEPS, batch_size=BATCH))
    pixels = [view.pixels for view in renderer.render(requests)]
    return np.stack(pixels).reshape(len(captions), VIEWS, *pixels[0].shape)


@torch.inference_mode()
def score(
    judge: Judge, views: NDArray[np.uint8], descriptions: Sequence[world.Description]
) -> Scores:
    """What the judge says of views [descriptions, views, 32, 32, 3]."""
    tensor = to_tensor(views.reshape(-1, *views.shape[2:]))
    count = len(descriptions)
    answers = [logits.argmax(1).numpy().reshape(count, VIEWS) for logits in judge(tensor)]
    features = judge.features(tensor).reshape(count, VIEWS, -1)
    # Divided by the pairs of different views: the distance of a view to itself is 0.
    distances = torch.cdist(features, features).sum(dim=(1, 2)) / (VIEWS * (VIEWS - 1))

    def agreement(head: int, name: str) -> float:
        pairs = zip(answers[head], (getattr(d, name) for d in descriptions), strict=True)
        return float(np.mean([row == value for row, value in pairs if value is not None]))

    spans = views.max(axis=(2, 3)).astype(int) - views.min(axis=(2, 3))
    return Scores(
        digit=agreement(0, "digit"),
        ink=agreement(1, "ink"),
        ground=agreement(2, "ground"),
        diversity=float(distances.mean()),
        shapes=shape_diversity(views),
        blank=int((spans.max(axis=-1) < 24).sum()),
    )


def coverage(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape of the ink without its colours: [n, 8, 8, 3] -> [n, 8, 8] from 0 (ground) to 1 (ink).

    A pixel is projected on the first principal axis of the colours of its picture, which leads from
    ground to ink or back.
    """
    flat = pictures.reshape(len(pictures), -1, 3)
    centred = flat - flat.mean(axis=1, keepdims=True)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    along = np.einsum("npc,nc->np", centred, axes[:, 0]).reshape(-1, 8, 8)
    # The sign of a principal axis is arbitrary; the left and right edges are nearly always ground.
    edge = np.concatenate([along[:, :, 0], along[:, :, -1]], axis=1)
    along *= np.where(np.median(edge, axis=1) > 0, -1, 1)[:, None, None]
    low, high = along.min(axis=(1, 2), keepdims=True), along.max(axis=(1, 2), keepdims=True)
    shape: NDArray[np.float64] = (along - low) / np.maximum(high - low, 1e-9)
    return shape


def shape_diversity(views: NDArray[np.uint8]) -> float:
    """Mean distance between the shapes of views of one caption: root mean square, 0 to 1."""
    shapes = torch.from_numpy(coverage(small(views))).reshape(len(views), VIEWS, -1)
    pairs = torch.cdist(shapes, shapes).sum(dim=(1, 2)) / (VIEWS * (VIEWS - 1))
    return float(pairs.mean() / shapes.shape[-1] ** 0.5)


def nearest(shapes: NDArray[np.float64], bank: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square distance of each shape [n, 8, 8] to the nearest one in the bank, [n]."""
    one, other = shapes.reshape(len(shapes), -1), bank.reshape(len(bank), -1)
    # |a - b|^2 = |a|^2 + |b|^2 - 2 ab takes no array of all differences; rounding may give -1e-16.
    squared = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    distance: NDArray[np.float64] = np.sqrt(squared.min(axis=1).clip(0) / one.shape[1])
    return distance


def small(views: NDArray[np.uint8]) -> NDArray[np.float64]:
    """32 px pictures [..., 32, 32, 3] averaged to 8 px, [n, 8, 8, 3] from 0 to 1."""
    flat = views.reshape(-1, 8, 4, 8, 4, 3).astype(np.float64)
    averaged: NDArray[np.float64] = flat.mean(axis=(2, 4)) / 255
    return averaged


def main() -> int:
    """Print all scores and requirements; the exit status."""
    print(machine.describe())
    torch.set_num_threads(1)
    scores_of: dict[float, list[Scores]] = {scale: [] for scale in SCALES}
    generated = []
    for seed in SEEDS:
        judge = train_judge(seed)
        accuracy = {split: real_accuracy(judge, split) for split in ("select", "report")}
        line = "; ".join(
            f"{split} " + ", ".join(f"{head} {value:.3f}" for head, value in heads.items())
            for split, heads in accuracy.items()
        )
        print(f"judge {seed}, real held-out handwriting: {line}", flush=True)
        descriptions = world.draw_descriptions(np.random.default_rng([7, seed]), CAPTIONS)
        captions = [description.caption() for description in descriptions]
        for scale in SCALES:
            views = render(captions, scale, seed)
            scores_of[scale].append(score(judge, views, descriptions))
            if scale == 3.0:
                generated.append(small(views))
    print(f"\n{CAPTIONS} captions x {VIEWS} views x {len(SEEDS)} seeds, {STEPS} steps")
    print("| guidance | digit | ink | ground | diversity | diversity of shapes | blank |")
    print("|---|---|---|---|---|---|---|")
    mean: dict[float, Scores] = {}
    for scale, scores in scores_of.items():
        columns = []
        for name in ("digit", "ink", "ground", "diversity", "shapes"):
            values = np.array([getattr(row, name) for row in scores])
            digits = 2 if name == "diversity" else 4
            columns.append(f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}")
        mean[scale] = Scores(
            **{
                name: float(np.mean([getattr(row, name) for row in scores]))
                for name in ("digit", "ink", "ground", "diversity", "shapes")
            },
            blank=sum(row.blank for row in scores),
        )
        print(f"| {scale:g} | {' | '.join(columns)} | {mean[scale].blank} |")

    bank = coverage(small(world.paint_split("train", paintings_per_glyph=1, seed=1)[0]))
    own = nearest(coverage(np.concatenate(generated)), bank)
    real = nearest(
        coverage(small(world.paint_split("report", paintings_per_glyph=3, seed=2)[0])), bank
    )
    print("\nshape distance to the nearest of the training glyphs (root mean square, 0 to 1)")
    print("| | 1st percentile | 10th | median |")
    print("|---|---|---|---|")
    for name, values in (("views at guidance 3", own), ("real held-out glyphs", real)):
        quantiles = np.quantile(values, [0.01, 0.1, 0.5])
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in quantiles)} |")
    limit = np.quantile(real, 0.01)
    print(f"views nearer than the 1st percentile of real held-out ones: {(own < limit).mean():.3f}")

    count = CAPTIONS * VIEWS * len(SEEDS)
    error = {
        scale: float(np.sqrt(row.digit * (1 - row.digit) / count)) for scale, row in mean.items()
    }
    # Two standard errors of the difference: less than that is no difference.
    slack = 2 * float(np.hypot(error[4.0], error[8.0]))
    requirements = {
        "digit at guidance 3 >= 0.97": mean[3.0].digit >= 0.97,
        "ink at guidance 3 >= 0.98": mean[3.0].ink >= 0.98,
        "ground at guidance 3 >= 0.98": mean[3.0].ground >= 0.98,
        "agreement rises over 1, 2, 4": mean[1.0].digit < mean[2.0].digit < mean[4.0].digit,
        f"agreement at 8 not below 4 by more than {slack:.4f}": mean[8.0].digit
        >= mean[4.0].digit - slack,
        "diversity within a caption falls over 1, 2, 4": mean[1.0].diversity
        > mean[2.0].diversity
        > mean[4.0].diversity,
    }
    print()
    for requirement, holds in requirements.items():
        print(f"{'met    ' if holds else 'NOT MET'} {requirement}")
    return 0 if all(requirements.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
