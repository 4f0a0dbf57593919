"""Speed of `synth generate` on the embedded model, beside the loops that a user would write.

    python -m benchmarks.generate_speed [--rounds 5]

Each round runs three programs in turn, each of which renders on one core:

(a) a bare loop over the same renderer that stores nothing; it runs twice a round, and the ratio of
    the two tells the noise of the machine;
(b) the worker of `synth generate`, which stores everything;
(c) the stock pipeline, called as `pipe(prompts, num_images_per_prompt=N)`.

At the end two worker processes run at once, for the throughput of the machine.
"""

import multiprocessing
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
import torch

from benchmarks import machine
from manifests.plan import requests_of
from manifests.shard_set import ShardSet
from pipeline.batching import batches
from pipeline.config import load_config
from pipeline.execution.inline import InlineConfig, InlineExecutor
from pipeline.generating import Generation, begin, finish, run
from pipeline.job import Job
from pipeline.models import EMBEDDED_FOLDER
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.worker import ShardWorker
from prompts.lists import EMBEDDED_LIST

VIEWS, GUIDANCE, STEPS, BATCH = 8, 3.0, 5, 64
PROMPTS, PROMPTS_PER_SHARD = 96, 32


def new_set(folder: Path) -> Generation:
    """A set that is begun, with all of its shards still to be made."""
    captions = Path(f"{folder}{EMBEDDED_LIST.suffix}")
    captions.write_text("\n".join(EMBEDDED_LIST.read_text().splitlines()[:PROMPTS]))
    flags = {
        "prompts.file": str(captions),
        "views.per_subject": VIEWS,
        "renderer.guidance": (GUIDANCE,),
        "renderer.steps": STEPS,
        "renderer.batch_size": BATCH,
        "shards.subjects": PROMPTS_PER_SHARD,
        "execution.executor": "inline",
    }
    return begin(load_config(recipe=None, overrides=[], flags=flags), str(folder))


def bare(shards: ShardSet, renderer: TextToImage) -> float:
    """Seconds to render all views of a set; each is dropped."""
    requests = requests_of(shards.recipe.identity, shards.all_subjects())
    start = time.perf_counter()
    for batch in batches(requests, BATCH, renderer.batch_key):
        renderer.render(batch)
    return time.perf_counter() - start


def stored(folder: Path) -> float:
    """Seconds to make and seal a whole set; loading the renderer is not counted."""
    generation = new_set(folder)
    worker = ShardWorker.open(generation.job)
    worker.render_views(generation.shards.requests(0)[:1])  # the first call is slower than others
    opened = replace(generation, executor=_WarmExecutor(worker))
    start = time.perf_counter()
    for _ in run(opened):
        pass
    finish(generation, seal_incomplete=False)
    return time.perf_counter() - start


class _WarmExecutor(InlineExecutor):
    """An executor whose worker is loaded already, so that loading is not measured."""

    def __init__(self, worker: ShardWorker) -> None:
        super().__init__(InlineConfig())
        self._worker = worker

    def _open(self, job: Job) -> ShardWorker:
        return self._worker


def stock(shards: ShardSet, pipe: object) -> float:
    """Seconds of the stock pipeline, with as many views in a call as (a) has in a batch."""
    captions = [subject.text for subject in shards.all_subjects()]
    start = time.perf_counter()
    for index in range(0, len(captions), BATCH // VIEWS):
        batch = captions[index : index + BATCH // VIEWS]
        made = pipe(  # type: ignore[operator]
            batch,
            num_images_per_prompt=VIEWS,
            guidance_scale=GUIDANCE,
            num_inference_steps=STEPS,
        )
        # A pipeline ignores an argument that it does not know, and would do an eighth of the work.
        assert len(made.images) == len(batch) * VIEWS
    return time.perf_counter() - start


def _one_of_two(
    folder: str, barrier: "multiprocessing.synchronize.Barrier", durations: object
) -> None:
    torch.set_num_threads(1)
    barrier.wait()  # until the other process has imported everything as well
    durations.put(stored(Path(folder)))  # type: ignore[attr-defined]


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
def main(rounds: int) -> None:
    import diffusers

    torch.set_num_threads(1)
    print(machine.describe())
    diffusers.utils.logging.disable_progress_bar()
    pipe = diffusers.DiffusionPipeline.from_pretrained(EMBEDDED_FOLDER)
    pipe.set_progress_bar_config(disable=True)
    renderer = TextToImage(TextToImageConfig(steps=STEPS, batch_size=BATCH))
    seconds: dict[str, list[float]] = {
        name: [] for name in ("bare", "bare again", "stored", "stock")
    }
    with tempfile.TemporaryDirectory() as scratch:
        shards = new_set(Path(scratch) / "warm").shards
        renderer.render(shards.requests(0)[:BATCH])
        views = shards.recipe.identity.num_subjects * VIEWS
        for index in range(rounds):
            seconds["bare"].append(bare(shards, renderer))
            seconds["stored"].append(stored(Path(scratch) / str(index)))
            seconds["bare again"].append(bare(shards, renderer))
            seconds["stock"].append(stock(shards, pipe))
        print(
            f"{views} views, guidance {GUIDANCE:g}, {STEPS} steps, batch {BATCH}, {rounds} rounds"
        )
        for name, values in seconds.items():
            print(f"{name:10s} {views / statistics.median(values):7.1f} views/s")
        for name, other in (("bare again", "bare"), ("stored", "bare"), ("stored", "stock")):
            # Ratios within a round, so that a slow drift of the machine cancels out.
            ratios = [b / a for a, b in zip(seconds[name], seconds[other], strict=True)]
            print(
                f"speed of {name} / {other}: median {statistics.median(ratios):.3f}, "
                f"{min(ratios):.3f} to {max(ratios):.3f}"
            )
        context = multiprocessing.get_context("spawn")
        barrier, durations = context.Barrier(2), context.Queue()
        pair = [
            context.Process(target=_one_of_two, args=(f"{scratch}/two-{i}", barrier, durations))
            for i in range(2)
        ]
        for process in pair:
            process.start()
        # Read before `join`: a process may not end before its queue is read.
        rates = [views / durations.get() for _ in pair]
        for process in pair:
            process.join()
        print(f"two workers at once, everything stored: {sum(rates):.1f} views/s")


if __name__ == "__main__":
    main()
