"""Images per second of a training step of ViT-B/16, on a batch that is there: bare, and ours."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.rendering import synchronise
from trainer.config import load_config
from trainer.data.opening import open_source
from trainer.learner import Learner
from trainer.models.encoder import num_features
from trainer.objectives import Batch, Crops, Towers
from trainer.optimization import make_optimizer
from trainer.planning import make_plan

GROUPS, PER_GROUP = 20, 10


def measure(url: str, *, device: str, model: str, groups: int, rounds: int) -> dict[str, Any]:
    """Rates of both.

    Args:
        url: Any set; it decides no pixel here, but a plan is made for one.
        groups: Captions of a step, of PER_GROUP images each.
    """
    overrides = [f"batch.groups={groups}", f"batch.views_per_group={PER_GROUP}"]
    config = load_config(
        recipe=None, overrides=overrides, flags={"model.model": model, "schedule.steps": 1}
    )
    plan = make_plan(config, open_source(url), world=1)
    size = plan.spec.input_px
    pixels = torch.randn(groups * PER_GROUP, 3, size, size, device=device)
    learner = Learner(plan.spec, plan.objective, plan.objective_config).train().to(device)
    towers = Towers(image=learner.encoder, num_features=num_features(learner.encoder, plan.spec))
    batch = Batch(
        crops=(Crops(images=pixels, per_group=PER_GROUP),),
        ids=torch.arange(groups, device=device),
    )
    optimizer = make_optimizer(learner, config.optimizer)

    def ours() -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = learner.objective(towers, batch).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    bare_model = _bare(model, size).to(device)
    bare_optimizer = torch.optim.AdamW(bare_model.parameters(), lr=1e-4)

    def bare() -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = bare_model(pixels).square().mean()
        bare_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        bare_optimizer.step()

    count = groups * PER_GROUP
    rates = {"bare": _rate(bare, count, device, rounds), "ours": _rate(ours, count, device, rounds)}
    return {"model": model, "images": count, **rates, "ours / bare": rates["ours"] / rates["bare"]}


def _bare(model: str, size: int) -> nn.Module:
    import timm

    return timm.create_model(model, num_classes=128, img_size=size)


def _rate(step: Callable[[], None], count: int, device: str, rounds: int) -> float:
    step()
    synchronise(device)
    start = time.perf_counter()
    for _ in range(rounds):
        step()
    synchronise(device)
    return round(rounds * count / (time.perf_counter() - start), 2)
