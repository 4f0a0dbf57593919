"""What a step takes as it is worked out, beside a step that is really taken."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.picture_sets import make_picture_set
from trainer.config import load_config
from trainer.data.batches import Batches, LoadedBatch
from trainer.data.opening import open_source
from trainer.learner import make_learner
from trainer.optimization import make_optimizer
from trainer.planning import Plan, make_plan
from trainer.state import TrainingState
from trainer.step_cost import Tally, step_cost
from trainer.steps import Stepper
from trainer.strategies.ddp import Ddp

VIT = {
    "model.model": "vit_tiny_patch16_224",
    "model.args": {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3},
    "model.input_px": 32,
}
SETTINGS = {"objective.head_hidden": 64, "objective.head_out": 16, "schedule.steps": 2}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "stablerep": SETTINGS | {"batch.views_per_group": 3},
    "stablerep-plus": SETTINGS
    | {"objective.text": {"width": 32, "heads": 2, "layers": 2, "embed_dim": 16}},
    "byol": SETTINGS,
    "synclr": SETTINGS
    | {
        "model.args": {**VIT["model.args"], "dynamic_img_size": True},  # type: ignore[dict-item]
        "objective.local_size": 0.5,
        "objective.prototypes": 500,
        "objective.patch_hidden": 32,
        "objective.patch_bottleneck": 16,
    },
    "moco": SETTINGS | {"objective.queue": 64, "optimizer.name": "sgd"},
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sets") / "set"
    make_picture_set(folder)
    return str(folder)


def plan_of(url: str, name: str, **changes: Any) -> Plan:
    flags = VIT | OBJECTIVES[name] | {"objective.name": name, "batch.groups": 6} | changes
    return make_plan(load_config(recipe=None, overrides=[], flags=flags), open_source(url), world=1)


def peak_of_a_real_step(plan: Plan, folder: Path) -> int:
    """Bytes at the peak of the second step; the first one makes the moments."""
    torch.manual_seed(0)
    with Tally() as tally:
        learner = make_learner(plan).train()
        optimizer = make_optimizer(learner.parameters(), plan.config.optimizer)
        state = TrainingState(plan, folder, Ddp(learner), optimizer)
        batches = Batches(plan.stream, plan.crops, seed=0, rank=0, world=1)
        stepper = Stepper(plan, state, torch.device("cpu"))
        for step in range(2):
            batch = batches[step]
            assert isinstance(batch, LoadedBatch)
            tally.peak_bytes = 0
            stepper.take(step, batch)
            del batch
    return tally.peak_bytes


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(
    "way", [{}, {"run.grad_cache": 4}, {"run.activation_checkpointing": True}], ids=str
)
def test_memory_is_what_a_step_really_holds(
    url: str, tmp_path: Path, name: str, way: dict[str, Any]
) -> None:
    plan = plan_of(url, name, **way)
    cost, real = step_cost(plan, world=1), peak_of_a_real_step(plan, tmp_path)
    assert cost.state_bytes < cost.peak_bytes
    assert cost.peak_bytes == pytest.approx(real, rel=0.03)


def test_few_rows_at_a_time_take_less_memory_and_one_more_pass(url: str) -> None:
    whole = step_cost(plan_of(url, "stablerep", **{"batch.groups": 12}), world=1)
    parts = step_cost(
        plan_of(url, "stablerep", **{"batch.groups": 12, "run.grad_cache": 4}), world=1
    )
    assert parts.peak_bytes < whole.peak_bytes / 3
    assert parts.step_multiply_adds / whole.step_multiply_adds == pytest.approx(4 / 3, rel=0.03)


def test_counts_of_a_tower_of_the_papers(url: str) -> None:
    """timm says 85.80 million parameters and 17.58 billion multiply-adds of ViT-B/16."""
    flags = {"model.model": "vit_base_patch16_224", "model.args": {}, "model.input_px": 224}
    cost = step_cost(plan_of(url, "stablerep", **flags), world=2)
    assert cost.tower_parameters == 85_798_656
    assert cost.image_multiply_adds == pytest.approx(17.58e9, rel=0.005)
    rows = 3 * 3
    assert cost.step_multiply_adds == pytest.approx(3 * rows * 17.58e9, rel=0.02)


def test_fsdp_divides_what_is_always_there(url: str) -> None:
    """By arithmetic: a tower of one block is whole in a step, its moments are divided."""
    alone = step_cost(plan_of(url, "stablerep"), world=2)
    divided = step_cost(plan_of(url, "stablerep", **{"run.strategy": "fsdp"}), world=2)
    assert divided.state_bytes == pytest.approx(alone.state_bytes / 2, rel=0.01)
    assert divided.step_multiply_adds == alone.step_multiply_adds
    cached = {"run.strategy": "fsdp", "run.grad_cache": 4}
    whole = step_cost(plan_of(url, "stablerep", **cached), world=2)
    plain = step_cost(plan_of(url, "stablerep", **{"run.grad_cache": 4}), world=2)
    assert whole.peak_bytes - whole.state_bytes > plain.peak_bytes - plain.state_bytes
