"""Steps of the trainer on a GPU: ViT-B/16, in several ways, beside a bare loop over the same batch.

For each way: images a second, the share of what a large product of matrices reaches, memory at the
peak beside what `trainer.step_cost` works out from shapes, and how often the host waited for the
device in a step that logs nothing (torch's sync debug mode). The last way takes the published batch
of StableRep, 8,256 images, on this one GPU.
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch

from benchmarks.gpu.rendering import synchronise
from benchmarks.recipe_cost import Captions
from trainer.config import load_config
from trainer.learner import make_learner
from trainer.optimization import make_optimizer
from trainer.planning import Plan, make_plan
from trainer.precision import float32_as
from trainer.state import TrainingState
from trainer.step_cost import blank_batch, step_cost
from trainer.steps import Stepper
from trainer.strategies.ddp import Ddp

VIEWS = 6
WAYS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "fp32": (16, 3, ("run.precision=fp32",)),
    "tf32": (16, 5, ("run.precision=tf32",)),
    "bf16": (43, 10, ()),
    "bf16, compiled": (43, 10, ("run.compile=true",)),
    "bf16, activation checkpointing": (43, 5, ("run.activation_checkpointing=true",)),
    "bf16, GradCache of 256": (172, 3, ("run.grad_cache=256",)),
    "bf16, GradCache of 256, published batch": (1376, 1, ("run.grad_cache=256",)),
}
"""Groups of VIEWS views in a step, steps that are timed, and keys of the recipe."""


def measure(*, device: str, model: str, limit_tflops: float, tiny: bool) -> dict[str, Any]:
    """All ways by name; one that does not fit says so."""
    results: dict[str, Any] = {}
    for name, (groups, steps, keys) in WAYS.items():
        if tiny and "compiled" in name:
            continue  # takes minutes on a CPU, and a test of its own has it
        plan = _plan(model, 2 if tiny else groups, keys)
        try:
            with float32_as(plan.config.run.precision):
                results[name] = _way(plan, device, 1 if tiny else steps, limit_tflops)
        except torch.OutOfMemoryError as exc:
            results[name] = f"failed: {exc!s:.120}"
        if device == "cuda":
            torch.cuda.empty_cache()
    return results


def _plan(model: str, groups: int, keys: tuple[str, ...]) -> Plan:
    overrides = ["run.precision=bf16", f"batch.groups={groups}", f"batch.views_per_group={VIEWS}"]
    flags = {"model.model": model, "schedule.steps": 100}
    config = load_config(recipe=None, overrides=[*overrides, *keys], flags=flags)
    return make_plan(config, Captions(), world=1)


def _way(plan: Plan, device: str, steps: int, limit_tflops: float) -> dict[str, Any]:
    cost = step_cost(plan, world=1)
    learner = make_learner(plan).to(device).train()
    if plan.config.run.compile:
        learner.compile_towers()
    optimizer = make_optimizer(learner.parameters(), plan.config.optimizer)
    state = TrainingState(plan, Path(), Ddp(learner), optimizer)
    stepper = Stepper(plan, state, torch.device(device))
    batch = blank_batch(plan, plan.demand.num_groups)
    if device == "cuda":
        batch = batch.pin_memory()
    number = 0

    def step() -> None:
        nonlocal number
        stepper.take(number, batch)
        number += 1

    step()
    synchronise(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ours = _rate(step, plan.crops_per_step, device, steps)
    result = {
        "images": plan.crops_per_step,
        "images_per_s": ours,
        "share_of_limit": round(
            2 * cost.step_multiply_adds * ours / plan.crops_per_step / 1e12 / limit_tflops, 3
        ),
        "worked_out_gb": round(cost.peak_bytes / 1e9, 2),
    }
    if device == "cuda":
        result["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        result["waits_in_a_step"] = _waits(step)
    if plan.config.run.grad_cache is None:
        del learner, optimizer, stepper
        bare = _rate(_bare(plan, device), plan.crops_per_step, device, steps)
        result |= {"bare_images_per_s": bare, "ours / bare": round(ours / bare, 3)}
    return result


def _waits(step: Callable[[], None]) -> list[str]:
    """Where the host waited for the device in one step."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sorted(
        {
            f"{Path(warning.filename).name}:{warning.lineno}"
            for warning in caught
            if "synchroniz" in str(warning.message)
        }
    )


def _bare(plan: Plan, device: str) -> Callable[[], None]:
    """A step by hand: the same tower on pixels that are there, and a loss that costs nothing."""
    px, run = plan.spec.input_px, plan.config.run
    model = timm.create_model(plan.spec.model, num_classes=0).to(device)
    pixels = torch.randn(plan.crops_per_step, 3, px, px, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    if run.activation_checkpointing:
        model.set_grad_checkpointing(True)
    if run.compile:
        model.compile()

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=run.precision == "bf16"):
            loss = model(pixels).float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    step()
    return step


def _rate(step: Callable[[], None], count: int, device: str, rounds: int) -> float:
    synchronise(device)
    start = time.perf_counter()
    for _ in range(rounds):
        step()
    synchronise(device)
    return round(rounds * count / (time.perf_counter() - start), 2)
