"""What generation costs beside rendering: Ray's driver, and storing what a renderer draws.

    python -m benchmarks.overhead [--workers 1000] [--shards 20000] [--rates 20,100]

First the driver's loop of executor `ray` is run with so many workers that do nothing; they share a
few processes, since a machine has no room for a thousand. CPU and memory are those of the driver.
Then a renderer that sleeps, and uses no CPU meanwhile, draws pictures of 512 px at each rate: in a
bare loop that drops them and in the worker of `synth generate`, which stores them, in turn. Writes
results/overhead.json.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks import machine
from benchmarks.noise import Noise
from manifests.shard_set import ShardSet
from pipeline.batching import batches
from pipeline.config import load_config
from pipeline.execution.ray_executor import LOOPBACK, OBJECT_STORE_BYTES
from pipeline.execution.ray_executor.driver import Driver, ray
from pipeline.generating import begin, finish, run
from pipeline.retrying import Attempt, WorkQueue
from pipeline.shard_report import ShardReport
from pipeline.views import Resources

RESULTS = Path(__file__).parent / "results" / "overhead.json"
PROCESSES = 4
"""That the workers of the driver's trial share."""
ROUNDS = 3


class _Idle:
    """Stands for many workers: it makes each shard without work."""

    def __init__(self, shard_s: float) -> None:
        self._shard_s = shard_s
        self._report: dict[str, Any] = {
            "num_views": 1000,
            "num_ok": 1000,
            "tar_bytes": 1,
            **dict.fromkeys(("wait_s", "render_s", "encode_s", "commit_s", "total_s"), 0.0),
            "storage_repeats": 0,
            "errors": (),
            "host": "none",
        }

    async def ready(self) -> list[str]:
        return []

    async def num_rendered(self) -> dict[int, int]:
        return {}

    async def make(self, attempt: Attempt) -> ShardReport:
        await asyncio.sleep(self._shard_s)
        return ShardReport(shard=attempt.shard, finished_at=time.time(), **self._report)


class _Handles:
    """In place of the driver's class of actors: new workers are old processes."""

    def __init__(self, workers: int, shard_s: float) -> None:
        idle = ray.remote(max_concurrency=2 * workers, num_cpus=0)(_Idle)
        self._actors = [idle.remote(shard_s) for _ in range(PROCESSES)]
        ray.get([actor.ready.remote() for actor in self._actors])
        self._next = 0

    def remote(self, *arguments: object) -> Any:
        self._next += 1
        return self._actors[self._next % PROCESSES]


def driver(workers: int, num_shards: int, shard_s: float = 0.0) -> dict[str, float]:
    """Seconds of the driver for each shard, and how much its memory grows.

    Args:
        shard_s: How long a worker takes for a shard.
    """
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address=LOOPBACK,
    )
    try:
        # The job is never opened: the workers do nothing.
        job: Any = type(
            "Job", (), {"resources": Resources(device_type="cpu", threads=1), "url": "none"}
        )()
        loop = Driver(lambda: workers, job, 1, None)
        loop._actor = _Handles(workers, shard_s)
        warm = WorkQueue(range(2 * workers))
        assert _num_made(loop.run(warm)) == 2 * workers
        before = machine.resident_bytes("VmRSS")
        start, cpu = time.perf_counter(), time.process_time()
        queue = WorkQueue(range(2 * workers, 2 * workers + num_shards))
        assert _num_made(loop.run(queue)) == num_shards
        return {
            "workers": workers,
            "shards": num_shards,
            "cpu_ms_per_shard": 1000 * (time.process_time() - cpu) / num_shards,
            "ms_per_shard": 1000 * (time.perf_counter() - start) / num_shards,
            "growth_mb": (machine.resident_bytes("VmRSS") - before) / 1e6,
        }
    finally:
        ray.shutdown()


def _num_made(outcomes: Iterator[Any]) -> int:
    return sum(isinstance(outcome, ShardReport) for outcome in outcomes)


def stored(folder: Path, rate: float) -> dict[str, float]:
    """Images per second of the bare loop and of the worker, in turn."""
    captions = folder / "captions.txt"
    captions.write_text("".join(f"thing {number}\n" for number in range(int(rate * 3))))
    flags = {
        "prompts.file": str(captions),
        "views.per_subject": 8,
        "renderer.name": "benchmarks.noise:Noise",
        "renderer.size_px": 512,
        "renderer.block_px": 16,
        "renderer.batch_size": 60,
        "renderer.view_s": 1 / rate,
        "shards.subjects": 100,
        "execution.executor": "inline",
    }
    rates: dict[str, list[float]] = {"bare": [], "stored": []}
    for number in range(ROUNDS):
        generation = begin(
            load_config(recipe=None, overrides=[], flags=flags), str(folder / f"set-{number}")
        )
        views = generation.shards.recipe.identity.num_views
        rates["bare"].append(views / bare(generation.shards))
        start = time.perf_counter()
        for outcome in run(generation):
            assert isinstance(outcome, ShardReport)
        rates["stored"].append(views / (time.perf_counter() - start))
        finish(generation, seal_incomplete=False)
    ratios = [s / b for s, b in zip(rates["stored"], rates["bare"], strict=True)]
    return {
        "rate": rate,
        "views": views,
        **{name: statistics.median(values) for name, values in rates.items()},
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def bare(shards: ShardSet) -> float:
    """Seconds to render all views of a set; each is dropped."""
    settings = shards.recipe.settings["renderer"]
    renderer = Noise(Noise.Config(**settings))
    start = time.perf_counter()
    for shard in range(shards.layout.num_shards):
        for batch in batches(shards.requests(shard), renderer.batch_size, renderer.batch_key):
            renderer.render(batch)
    return time.perf_counter() - start


@click.command(help=__doc__)
@click.option("--workers", default=1000, show_default=True)
@click.option("--shards", default=20_000, show_default=True)
@click.option("--rates", default="20,100", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(workers: int, shards: int, rates: str, out: Path) -> None:
    result: dict[str, Any] = {"machine": machine.describe()}
    result["driver"] = driver(workers, shards)
    click.echo(json.dumps(result["driver"]))
    result["stored"] = []
    for rate in filter(None, rates.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            result["stored"].append(stored(Path(folder), float(rate)))
        click.echo(json.dumps(result["stored"][-1]))
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
