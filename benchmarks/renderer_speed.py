"""Speed of `synth generate` on programs, shaders and latents, beside the bare loops.

    python -m benchmarks.renderer_speed [--rounds 5] [--only programs,shaders,latents]

Each round runs in turn: a bare loop that draws as many views and drops them, without the renderers
of this project (it runs twice, and the ratio of the two tells the noise of the machine), and the
worker of `synth generate`, which stores everything. One core renders; the worker encodes on another
thread.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks import machine
from benchmarks.generate_speed import _WarmExecutor
from manifests.shard_set import ShardSet
from pipeline.config import load_config
from pipeline.generating import Generation, begin, finish, run
from pipeline.renderers.image_programs.drawing import Viewport, draw, read_program
from pipeline.renderers.latent_neighbourhood.generators import EMBEDDED_FILE, facts_beside
from pipeline.renderers.latent_neighbourhood.graphs import load_generator
from pipeline.renderers.shaders import wrapping
from pipeline.renderers.shaders.process import DrawingProcess
from pipeline.worker import ShardWorker
from prompts.shaders.dialects import from_text

RESULTS = Path(__file__).parent / "results" / "renderer_speed.json"
VIEWS, SIZE_PX, BATCH = 8, 64, 64
SETTINGS: dict[str, dict[str, Any]] = {
    "programs": {
        "renderer.name": "image-programs",
        "renderer.size_px": SIZE_PX,
        "prompts.source": "programs",
        "prompts.count": 256,
    },
    "shaders": {
        "renderer.name": "shaders",
        "renderer.size_px": SIZE_PX,
        "prompts.source": "shaders",
    },
    "latents": {
        "renderer.name": "latent-neighbourhood",
        "prompts.source": "anchors",
        "prompts.count": 256,
        "renderer.batch_size": BATCH,
    },
}
VIEWS_OF = {"shaders": 256}
"""Views of a subject where it is not VIEWS: there are only eight shaders, and each is compiled."""


def new_set(kind: str, folder: Path) -> Generation:
    """A set that is begun, with all of its shards still to be made."""
    flags = {"views.per_subject": VIEWS_OF.get(kind, VIEWS), "execution.executor": "inline"}
    return begin(load_config(recipe=None, overrides=[], flags=SETTINGS[kind] | flags), str(folder))


def stored(kind: str, folder: Path) -> float:
    """Seconds to make and seal a whole set; opening the renderer is not counted."""
    generation = new_set(kind, folder)
    worker = ShardWorker.open(generation.job)
    worker.render_views(generation.shards.requests(0)[:1])
    opened = replace(generation, executor=_WarmExecutor(worker))
    start = time.perf_counter()
    for _ in run(opened):
        pass
    finish(generation, seal_incomplete=False)
    return time.perf_counter() - start


def bare_programs(shards: ShardSet) -> None:
    """All views of a program at once, as tensors."""
    rng = np.random.default_rng(0)
    for subject in shards.all_subjects():
        viewports = [
            Viewport(time=rng.uniform(0.1, 10), x=0.0, y=0.0, zoom=1.0) for _ in range(VIEWS)
        ]
        draw(read_program(subject.text), viewports, SIZE_PX, torch.device("cpu"))


def bare_shaders(shards: ShardSet) -> None:
    """One drawing process, a call for each view."""
    process = DrawingProcess(size_px=SIZE_PX, device="cpu", compile_s=60, draw_s=60, memory_gib=8)
    for subject in shards.all_subjects():
        shader = from_text(subject.text)
        process.compile(wrapping.VERTEX, wrapping.wrap(shader), wrapping.num_targets(shader))
        for view in range(VIEWS_OF["shaders"]):
            process.draw(0.1 + view / 26, (0.0, 0.0, 1.0))
    process.close()


def bare_latents(shards: ShardSet) -> None:
    """The graph alone, on batches of random latents."""
    facts = facts_beside(EMBEDDED_FILE)
    assert facts.latent_dim is not None
    assert facts.no_class is not None
    module, rng = load_generator(EMBEDDED_FILE, "cpu"), torch.Generator().manual_seed(0)
    classes = torch.full((BATCH,), facts.no_class)
    with torch.inference_mode():
        for _ in range(shards.recipe.identity.num_subjects * VIEWS // BATCH):
            module(torch.randn(BATCH, facts.latent_dim, generator=rng), classes)


BARE: dict[str, Callable[[ShardSet], None]] = {
    "programs": bare_programs,
    "shaders": bare_shaders,
    "latents": bare_latents,
}


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--only", default=",".join(SETTINGS), show_default=True)
def main(rounds: int, only: str) -> None:
    torch.set_num_threads(1)
    described = machine.describe()
    print(described)
    print("| what | bare, views/s | stored, views/s | stored / bare | bare / itself |")
    print("|---|---|---|---|---|")
    results: dict[str, Any] = {"machine": described, "rounds": rounds}
    for kind in only.split(","):
        seconds: dict[str, list[float]] = {"bare": [], "stored": [], "again": []}
        with tempfile.TemporaryDirectory() as scratch:
            shards = new_set(kind, Path(scratch) / "warm").shards
            count = shards.recipe.identity.num_subjects * VIEWS_OF.get(kind, VIEWS)
            BARE[kind](shards)
            for index in range(rounds):
                for name in ("bare", "stored", "again"):
                    if name == "stored":
                        seconds[name].append(stored(kind, Path(scratch) / str(index)))
                        continue
                    start = time.perf_counter()
                    BARE[kind](shards)
                    seconds[name].append(time.perf_counter() - start)
        results[kind] = {"views": count, "seconds": seconds}
        rates = [f"{count / statistics.median(seconds[name]):,.0f}" for name in ("bare", "stored")]
        ratios = [
            _spread([b / a for a, b in zip(seconds[name], seconds["bare"], strict=True)])
            for name in ("stored", "again")
        ]
        print(f"| {' | '.join([kind, *rates, *ratios])} |", flush=True)
    if only == ",".join(SETTINGS):
        RESULTS.write_text(f"{json.dumps(results, indent=1)}\n")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
