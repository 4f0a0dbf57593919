"""A step of `synth train` beside the bare computation: forward, backward and optimizer.

    python -m benchmarks.step_speed [--rounds 5] [--steps 6]

Bare is a loop by hand: the same tower, head, loss and AdamW on one batch that is already a
normalised tensor. The step of the trainer also loads and decodes views in a worker process, colours
them, takes the norm of the gradients, guards against NaN and writes metrics. One thread computes,
and the worker has a core of its own. In each round the bare loop runs before and after the trainer;
the ratio of the two is the noise of the machine.
"""

import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import click
import torch

from benchmarks import machine
from benchmarks.loader_speed import make_set
from trainer.config import load_config
from trainer.data.opening import open_source
from trainer.learner import Learner
from trainer.loop import train
from trainer.models.encoder import num_features
from trainer.objectives import Batch, Crops, Towers
from trainer.optimization import make_optimizer
from trainer.planning import Plan, make_plan

SETTINGS = (
    "batch.groups=8",
    "batch.views_per_group=4",
    "run.log_every=1",
    "run.checkpoint_every=100000",
    "data.workers=1",
    "objective.head_hidden=512",
    "objective.head_out=128",
)
RECIPES = {
    "weak": ("augment.jitter_prob=0.0", "augment.grey_prob=0.0", "augment.blur_prob=0.0"),
    "StableRep's": (),
}


def make(url: str, model: str, augment: tuple[str, ...], steps: int) -> Plan:
    """The plan of a run of a few steps on the set at `url`."""
    config = load_config(
        recipe=None,
        overrides=[*SETTINGS, *augment],
        flags={"model.model": model, "schedule.steps": steps},
    )
    return make_plan(config, open_source(url), world=1)


def bare(plan: Plan, steps: int) -> float:
    """Median seconds of a step of the loop by hand; its first step is left out as a warm-up."""
    torch.manual_seed(0)
    learner = Learner(plan.spec, plan.objective, plan.objective_config).train()
    optimizer = make_optimizer(learner.parameters(), plan.config.optimizer)
    pixels = torch.randn(plan.crops_per_step, 3, plan.spec.input_px, plan.spec.input_px)
    crops = Crops(images=pixels, per_group=plan.demand.views_per_group)
    batch = Batch(crops=(crops,), ids=torch.arange(plan.demand.num_groups))
    towers = Towers(image=learner.encoder, num_features=num_features(learner.encoder, plan.spec))
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        loss = learner.objective(towers, batch).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def whole(plan: Plan, folder: Path) -> tuple[float, float]:
    """Median seconds of a step of the trainer, and the part of it spent on waiting for data."""
    marks, waits = [], []

    def mark(step: int, values: dict[str, float]) -> None:
        marks.append(time.perf_counter())
        waits.append(values["data_wait"])

    train(plan, folder, device=torch.device("cpu"), fresh=True, on_step=mark)
    times = [after - before for before, after in pairwise(marks)]
    return statistics.median(times), statistics.median(waits[1:])


@click.command()
@click.option("--model", default="vit_small_patch16_224")
@click.option("--rounds", default=5)
@click.option("--steps", default=6)
def main(model: str, rounds: int, steps: int) -> None:
    """Print one table."""
    torch.set_num_threads(1)
    print(machine.describe())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_set(folder / "set")
        url = str(folder / "set")
        print(f"{model}, 8 groups x 4 views, 224 px from 256 px JPEGs, {rounds} rounds\n")
        print("| crops | bare, s | trainer, s | trainer / bare | bare / bare | data wait |")
        print("|---|---|---|---|---|---|")
        for name, augment in RECIPES.items():
            plan = make(url, model, augment, steps + 1)
            rows = []
            for _ in range(rounds):
                first = bare(plan, steps)
                step, wait = whole(plan, folder / "run")
                rows.append((first, step, bare(plan, steps), wait))
            print(_line(name, rows), flush=True)


def _line(name: str, rows: list[tuple[float, float, float, float]]) -> str:
    first, step, second, wait = (statistics.median(column) for column in zip(*rows, strict=True))
    ours = _spread([row[1] / ((row[0] + row[2]) / 2) for row in rows])
    itself = _spread([row[0] / row[2] for row in rows])
    return f"| {name} | {(first + second) / 2:.2f} | {step:.2f} | {ours} | {itself} | {wait:.1%} |"


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    main()
