"""Judge the embedded model: whether it draws what captions say, and how varied.

    python -m benchmarks.embedded_model.gate MODEL JUDGES [--captions N] [--set steps=4] [...]

JUDGES holds a folder `judge-SEED` for each seed, as `benchmarks.embedded_model.judge` leaves them.
Captions name a concept and a ground that were never trained on together. Each seed has a judge, an
order of concepts and noise of its own; half of the range over the seeds stands after the mean.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.embedded_model.judge import Judge, train_judge
from benchmarks.embedded_model.train_decoder import to_tensor
from manifests.foundation.settings import check, read_settings
from pipeline.embedded.captions import Description
from pipeline.embedded.scenes import held_out_ground
from pipeline.embedded.sprites import concepts
from pipeline.models import find_model
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.renderers.text_to_image.config import COLUMNS
from pipeline.testing.requests import requests_for

VIEWS = 4
BATCH = 50


def render(
    model: str, captions: Sequence[str], *, scale: float, seed: int, options: Mapping[str, Any]
) -> NDArray[np.uint8]:
    """Views of all captions at one guidance scale, uint8 [captions, views, 32, 32, 3]."""
    requests = requests_for(
        captions,
        columns=COLUMNS,
        variations=[{"guidance_scale": scale}],
        views_per_subject=VIEWS,
        seed=seed,
    )
    values = {"model": model, "batch_size": BATCH, "threads": 1, **options}
    config = check(TextToImageConfig, values, origin="--set")
    pixels = [view.pixels for view in TextToImage(config).render(requests)]
    return np.stack(pixels).reshape(len(captions), VIEWS, *pixels[0].shape)


@torch.inference_mode()
def score(
    judge: Judge, views: NDArray[np.uint8], concept: NDArray[np.int64], ground: NDArray[np.int64]
) -> list[float]:
    """Top-1 and top-5 of the concept and right grounds in %, and diversity within a caption.

    Diversity is the mean distance in the judge's features between views of one caption.
    """
    pictures = to_tensor(views.reshape(-1, *views.shape[2:]))
    named, on = judge(pictures)
    best = named.topk(5).indices.numpy() == np.repeat(concept, VIEWS)[:, None]
    right = on.argmax(1).numpy() == np.repeat(ground, VIEWS)
    features = judge.features(pictures).reshape(len(views), VIEWS, -1)
    # Divided by the pairs of different views: the distance of a view to itself is 0.
    distance = torch.cdist(features, features).sum(dim=(1, 2)) / (VIEWS * (VIEWS - 1))
    shares = [best[:, 0].mean(), best.any(axis=1).mean(), right.mean()]
    return [*(100 * float(share) for share in shares), float(distance.mean())]


def test_captions(count: int, seed: int) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Captions of concepts on grounds that they were never trained on, with both as numbers."""
    concept = np.random.default_rng([300, seed]).permutation(len(concepts()))[:count]
    ground = held_out_ground(concept)
    said = [
        Description(concept=int(c), name=concepts()[c].name, ground=int(g)).caption()
        for c, g in zip(concept, ground, strict=True)
    ]
    return said, concept, ground


@click.command(help=__doc__)
@click.argument("model")
@click.argument("judges", type=click.Path(path_type=Path))
@click.option("--captions", default=249, show_default=True, help="A seed, each of 4 views.")
@click.option("--set", "overrides", multiple=True, help="Keys of the renderer, such as steps=4.")
@click.option("--scales", default="1,2,3,4,6,8", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON file of the figures.")
def main(
    model: str,
    judges: Path,
    captions: int,
    overrides: tuple[str, ...],
    scales: str,
    seeds: int,
    out: Path | None,
) -> None:
    torch.set_num_threads(1)
    given = read_settings(recipe=None, overrides=overrides, flags={})
    options = {"steps": 5, "dtype": "float32"} | given
    described = machine.describe()
    print(described)
    figures: dict[str, list[list[float]]] = {}
    trained = [train_judge(judges / f"judge-{seed}", 0, seed) for seed in range(seeds)]
    print("| guidance | concept, top-1 | top-5 | ground | diversity | views/s |")
    print("|---|---|---|---|---|---|")
    for scale in map(float, scales.split(",")):
        rows, started = [], time.process_time()
        for seed, judge in enumerate(trained):
            said, concept, ground = test_captions(captions, seed)
            views = render(model, said, scale=scale, seed=seed, options=options)
            rows.append(score(judge, views, concept, ground))
        speed = seeds * captions * VIEWS / (time.process_time() - started)
        mean, spread = np.mean(rows, axis=0), np.ptp(rows, axis=0)
        cells = [f"{m:.1f} ± {s / 2:.1f}" for m, s in zip(mean, spread, strict=True)]
        print(f"| {scale:g} | {' | '.join(cells)} | {speed:.0f} |", flush=True)
        figures[f"{scale:g}"] = rows
        if out is not None:
            setting = {"model": find_model(model).revision, **options}
            document = {"machine": described, **setting, "captions": captions}
            document |= {"views": VIEWS, "guidance": figures}
            out.write_text(f"{json.dumps(document, indent=1)}\n")


if __name__ == "__main__":
    main()
