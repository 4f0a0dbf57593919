"""Memory of a step as `synth train --dry-run` says it, beside what a process really takes.

    python -m benchmarks.step_memory [--model vit_small_patch16_224]

For each way to train: the peak that is worked out from shapes, and how much the resident memory of
a fresh process grew while it took two steps of the same plan on the CPU. Then seconds of CPU of the
second step, beside those of the step without any of it. Writes results/step_memory.json.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks import machine

RESULTS = Path(__file__).parent / "results" / "step_memory.json"
MODEL = "vit_small_patch16_224"
WAYS: dict[str, tuple[str, ...]] = {
    "whole batch": (),
    "bf16": ("run.precision=bf16",),
    "activation checkpointing": ("run.activation_checkpointing=true",),
    "GradCache, 8 images": ("run.grad_cache=8",),
    "both": ("run.grad_cache=8", "run.activation_checkpointing=true"),
}
FREEING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""The C library gives blocks of this size back at once, so what is resident is what is used."""
SETTINGS = ("batch.groups=16", "batch.views_per_group=4", "augment.blur_prob=0.0")


def plan_of(url: str, model: str, way: tuple[str, ...]) -> Any:
    """The plan of two steps of 64 images."""
    from trainer.config import load_config
    from trainer.data.opening import open_source
    from trainer.planning import make_plan

    flags = {"model.model": model, "schedule.steps": 2}
    config = load_config(recipe=None, overrides=[*SETTINGS, *way], flags=flags)
    return make_plan(config, open_source(url), world=1)


def take_steps(url: str, model: str, way: tuple[str, ...]) -> dict[str, float]:
    """Take two steps in this process: growth of its memory, and CPU of the second one."""
    import torch

    from trainer.data.batches import Batches, LoadedBatch
    from trainer.learner import make_learner
    from trainer.optimization import make_optimizer
    from trainer.state import TrainingState
    from trainer.steps import Stepper
    from trainer.strategies.ddp import Ddp

    torch.set_num_threads(1)
    plan = plan_of(url, model, way)
    batches = Batches(plan.stream, plan.crops, seed=0, rank=0, world=1)
    loaded = [batches[step] for step in range(2)]
    before = machine.resident_bytes("VmRSS")
    learner = make_learner(plan).train()
    optimizer = make_optimizer(learner.parameters(), plan.config.optimizer)
    state = TrainingState(plan, Path(), Ddp(learner), optimizer)
    stepper = Stepper(plan, state, torch.device("cpu"))
    for step, batch in enumerate(loaded):
        assert isinstance(batch, LoadedBatch)
        start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        stepper.take(step, batch)
        seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - start
    return {"bytes": machine.resident_bytes("VmHWM") - before, "cpu_s": seconds}


@click.command()
@click.option("--model", default=MODEL)
@click.option("--url", help="The set; internal, with --way.")
@click.option("--way", help="Take the steps of one way in this process, and print JSON.")
def main(model: str, url: str | None, way: str | None) -> None:
    """Print one table."""
    if way is not None and url is not None:
        print(json.dumps(take_steps(url, model, WAYS[way])))
        return
    from benchmarks.loader_speed import make_set
    from trainer.step_cost import step_cost

    print(machine.describe())
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "set"
        make_set(folder)
        print(f"{model}, 64 images of 224 px\n")
        print(
            "| way | worked out, GB | measured, GB | ratio | CPU of a step |\n|---|---|---|---|---|"
        )
        for name, keys in WAYS.items():
            said = step_cost(plan_of(str(folder), model, keys), world=1).peak_bytes
            command = [sys.executable, "-m", "benchmarks.step_memory", "--model", model]
            output = subprocess.run(
                [*command, "--url", str(folder), "--way", name],
                capture_output=True, text=True, check=True, env=os.environ | FREEING,
            ).stdout  # fmt: skip
            measured = json.loads(output.splitlines()[-1])
            rows[name] = {"worked_out_bytes": said, **measured}
            print(
                f"| {name} | {said / 1e9:.2f} | {measured['bytes'] / 1e9:.2f} | "
                f"{said / measured['bytes']:.2f} | {measured['cpu_s']:.1f} s, "
                f"{measured['cpu_s'] / rows['whole batch']['cpu_s']:.2f} |",
                flush=True,
            )
    document = {"machine": machine.describe(), "model": model, "ways": rows}
    RESULTS.write_text(f"{json.dumps(document, indent=2)}\n")


if __name__ == "__main__":
    main()
