"""The laws of `trainer.strategies`: each learns what one rank with the whole batch learns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conformance import test_objectives
from trainer.config import OptimizerTable
from trainer.optimization import make_optimizer, set_learning_rate
from trainer.strategies import STRATEGIES, strategy_class
from trainer.testing.objectives import (
    NUM_GROUPS,
    PATCHES,
    ObjectiveLaws,
    make_batch,
    make_learner,
    take,
)
from trainer.testing.ranks import run_ranks

OBJECTIVES = {
    kind.name: kind
    for kind in vars(test_objectives).values()
    if isinstance(kind, type) and issubclass(kind, ObjectiveLaws) and kind is not ObjectiveLaws
}
SGD = OptimizerTable(name="sgd")
STEPS = 3


def learn(rank: int, world: int, task: Mapping[str, Any], folder: str) -> None:
    """Take steps, and save what came of them; go on from a file if the task names one."""
    learner = make_learner(
        task["name"], task["settings"], task["tower"], grad_cache=task.get("grad_cache")
    ).train()
    if task.get("activation_checkpointing"):
        learner.recompute_activations()
    strategy = strategy_class(task["strategy"])(
        learner, keeps_whole=task.get("grad_cache") is not None
    )
    optimizer = make_optimizer(strategy.parameters(), task.get("optimizer", SGD))
    if "resumed" in task:
        strategy.load(torch.load(task["resumed"], weights_only=True), optimizer)
    set_learning_rate(optimizer, 0.01)
    groups = torch.arange(NUM_GROUPS).chunk(world)[rank]
    numbers = []
    for step in task.get("steps", range(STEPS)):
        torch.manual_seed(step)
        optimizer.zero_grad(set_to_none=True)
        terms = strategy.loss(take(make_batch(learner), groups))
        terms.total.backward()
        strategy.finish_backward()
        norm = strategy.clipped_norm(0.05)
        vars(optimizer)["found_inf"] = torch.tensor(float(step in task.get("skipped", ())))
        optimizer.step()
        learner.after_step(step, STEPS)
        losses = terms.total.detach().clone()
        if world > 1:
            torch.distributed.all_reduce(losses)
        numbers.append((float(losses) / world, float(norm)))
    saved = strategy.saved(optimizer)
    if rank == 0:
        torch.save({**saved, "numbers": numbers}, Path(folder) / "state.pt")


def learned(world: int, folder: Path, **task: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    if world == 1:
        learn(0, 1, task, str(folder))
    else:
        run_ranks(learn, world, task, str(folder))
    state: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True)
    return state


def of(name: str, **task: Any) -> dict[str, Any]:
    kind = OBJECTIVES[name]
    return {"name": name, "settings": dict(kind.settings), "tower": dict(kind.tower), **task}


def require_near(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert state["learner"].keys() == expected["learner"].keys()
    torch.testing.assert_close(state["numbers"], expected["numbers"], atol=1e-4, rtol=1e-4)
    for name, tensor in expected["learner"].items():
        torch.testing.assert_close(
            state["learner"][name], tensor, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert state["optimizer"].keys() == expected["optimizer"].keys()
    assert state["optimizer"]["state"].keys() == expected["optimizer"]["state"].keys()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_ranks_take_the_steps_of_one_with_the_whole_batch(
    name: str, strategy: str, tmp_path: Path
) -> None:
    alone = learned(1, tmp_path / "alone", **of(name, strategy=strategy))
    two = learned(2, tmp_path / "two", **of(name, strategy=strategy))
    require_near(two, alone)


WAYS = {
    "grad_cache": {"grad_cache": 5},
    "activation_checkpointing": {"activation_checkpointing": True},
    "both": {"grad_cache": 5, "activation_checkpointing": True},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["stablerep", "stablerep-plus", "byol", "synclr"])
@pytest.mark.parametrize("way", WAYS)
def test_ways_to_take_less_memory_change_nothing(
    way: str, name: str, strategy: str, tmp_path: Path
) -> None:
    task = {**of(name, strategy=strategy), "tower": PATCHES}
    plain = learned(1, tmp_path / "plain", **task)
    require_near(learned(2, tmp_path / "saving", **task, **WAYS[way]), plain)


@pytest.mark.parametrize("name", ["stablerep-plus", "byol", "moco"])
def test_a_state_goes_from_one_strategy_to_the_other_and_to_any_number_of_ranks(
    name: str, tmp_path: Path
) -> None:
    whole = learned(1, tmp_path / "whole", **of(name, strategy="ddp"))
    file = tmp_path / "begun" / "state.pt"
    for first, ranks in (("ddp", 1), ("fsdp", 2)):
        learned(ranks, file.parent, **of(name, strategy=first, steps=range(2)))
        for second, world in (("fsdp", 2), ("ddp", 2), ("ddp", 1), ("fsdp", 1)):
            task = of(name, strategy=second, steps=range(2, STEPS), resumed=str(file))
            rest = learned(world, tmp_path / "rest", **task)
            require_near(rest, {**whole, "numbers": whole["numbers"][2:]})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_state_gives_the_same_bits_and_a_skipped_step_changes_nothing(
    strategy: str, tmp_path: Path
) -> None:
    task = of("stablerep-plus", strategy=strategy, optimizer=OptimizerTable())
    through = learned(2, tmp_path / "through", **task)
    learned(2, tmp_path / "begun", **task, steps=range(2))
    file = str(tmp_path / "begun" / "state.pt")
    rest = learned(2, tmp_path / "rest", **task, steps=range(2, STEPS), resumed=file)
    skipped = learned(2, tmp_path / "skipped", **task, steps=range(3), skipped=(2,))
    begun = torch.load(file, weights_only=True)
    for state, expected in ((rest, through), (skipped, begun)):
        for name, tensor in expected["learner"].items():
            # What a skipped step did to running statistics is undone by `trainer.steps`.
            if state is rest or not name.endswith(("running_mean", "running_var", "_tracked")):
                assert torch.equal(state["learner"][name], tensor), name
        for number, moments in expected["optimizer"]["state"].items():
            for name, value in moments.items():
                assert torch.equal(state["optimizer"]["state"][number][name], value), name
