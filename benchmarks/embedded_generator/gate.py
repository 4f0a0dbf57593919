"""Judge the embedded latent generator: whether its samples show things, and how far a step goes.

    python -m benchmarks.embedded_generator.gate GENERATOR JUDGES [--samples N] [--out FILE]

GENERATOR is `embedded` or a file; JUDGES are those of `benchmarks.embedded_model.judge`. A sample
is recognised if the judge gives one thing at least half of its probability; by class, it is right
if that thing is the class. A neighbour keeps its thing if the judge names it as it names the
anchor, among the anchors that it recognises. Half of the range over the seeds stands after the
mean.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.embedded_model.judge import Judge, train_judge
from benchmarks.embedded_model.train_decoder import to_tensor
from pipeline.embedded.pictograms import PROTOCOL, scenes_of
from pipeline.embedded.scenes import paint
from pipeline.embedded.sprites import concepts
from pipeline.renderers.latent_neighbourhood import LatentNeighbourhood
from pipeline.renderers.latent_neighbourhood.config import LatentNeighbourhoodConfig
from pipeline.testing.requests import requests_for

SIGMAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)


def render(generator: str, texts: list[str], index: list[int], **keys: Any) -> NDArray[np.uint8]:
    """A view of each anchor in every variation, uint8 [anchors, variations, side, side, 3]."""
    table = {"generator": generator, "batch_size": 32, "device": "cpu", **keys}
    renderer = LatentNeighbourhood(LatentNeighbourhoodConfig.model_validate(table))
    variations = renderer.variations()
    wanted = requests_for(
        texts,
        columns=renderer.columns(),
        variations=variations,
        views_per_subject=len(variations),
        kind="latent",
    )
    wanted = [
        replace(
            request,
            subject=replace(
                request.subject, values={"class_index": index[request.subject.group_index]}
            ),
        )
        for request in wanted
    ]
    pixels = [view.pixels for view in renderer.render(wanted)]
    return np.stack(pixels).reshape(len(texts), len(variations), *pixels[0].shape)


@torch.inference_mode()
def named(judge: Judge, pictures: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The thing that the judge sees in each picture, and its probability."""
    flat = to_tensor(pictures.reshape(-1, *pictures.shape[-3:]))
    best = torch.cat([judge(part)[0].softmax(1) for part in flat.split(256)]).max(dim=1)
    shape = pictures.shape[:-3]
    return best.indices.numpy().reshape(shape), best.values.numpy().reshape(shape)


@click.command(help=__doc__)
@click.argument("generator")
@click.argument("judges", type=click.Path(path_type=Path))
@click.option("--samples", default=500, show_default=True, help="Of each seed.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON file of the figures.")
def main(generator: str, judges: Path, samples: int, seeds: int, out: Path | None) -> None:
    torch.set_num_threads(1)
    described = machine.describe()
    print(described)
    figures: dict[str, list[float]] = {}

    def add(name: str, share: Any) -> None:
        figures.setdefault(name, []).append(100 * float(share))

    for seed in range(seeds):
        judge = train_judge(judges / f"judge-{seed}", 0, seed)
        split = PROTOCOL["select"]
        scenes = scenes_of(split)
        real = paint(np.random.default_rng([split.seed, 1]), scenes, split.families)
        add("real drawings in new poses, recognised", (named(judge, real)[1] >= 0.5).mean())
        texts = [f"anchor {number} of seed {seed}" for number in range(samples)]
        views = render(generator, texts, [-1] * samples, sigma=SIGMAS)
        things, sure = named(judge, views)
        is_known = sure[:, 0] >= 0.5
        add("samples recognised", is_known.mean())
        add("things among them, of 249", len(set(things[is_known, 0].tolist())) / len(concepts()))
        classes = [number % len(concepts()) for number in range(samples)]
        of_class = render(generator, texts, classes, sigma=(0.0,))
        right, sure_of_class = named(judge, of_class)
        add("samples of a class, recognised", (sure_of_class >= 0.5).mean())
        add("samples of a class, right", (right[:, 0] == np.array(classes)).mean())
        for place, sigma in enumerate(SIGMAS):
            kept = things[is_known, place] == things[is_known, 0]
            add(f"neighbours at sigma {sigma:g} keep their thing", kept.mean())
    for name, values in figures.items():
        print(f"| {name} | {np.mean(values):.1f} ± {np.ptp(values) / 2:.1f} |")
    if out is not None:
        document = {"machine": described, "samples": samples, "percent": figures}
        out.write_text(f"{json.dumps(document, indent=1)}\n")


if __name__ == "__main__":
    main()
