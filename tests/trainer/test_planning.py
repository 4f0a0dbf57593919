"""What a step must hold, as the objective declares it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from manifests.foundation.errors import ConfigError
from tests.sets import refused
from trainer.config import load_config
from trainer.data.sources import Cache, Demand, Group, GroupStream
from trainer.planning import Plan, make_plan


class EmptySource:
    """Answers the questions of a plan; nothing is read from it."""

    url = "empty:"
    root = "empty-1"
    num_groups = None
    num_left_out = 0
    classes: Sequence[str] = ("blue", "red")

    def stream(self, demand: Demand) -> GroupStream:
        return self

    def groups(self, step: int, *, rank: int, world: int) -> list[Group]:
        raise NotImplementedError


def plan_of(objective: str, **flags: Any) -> Plan:
    values = {"objective.name": objective, "schedule.steps": 1}
    config = load_config(recipe=None, overrides=[], flags=values | flags)
    return make_plan(config, EmptySource(), world=1)


def test_step_of_one_group_is_enough_where_the_objective_says_so() -> None:
    plan = plan_of("cross-entropy", **{"batch.groups": 1, "batch.views_per_group": 4})
    assert (plan.demand.num_groups, plan.crops_per_step) == (1, 4)


@pytest.mark.parametrize("objective", ["stablerep", "stablerep-plus", "simclr", "clip", "byol"])
def test_step_of_one_group_is_refused_where_rows_are_compared(objective: str) -> None:
    with refused(ConfigError, "batch.groups is 1", f"{objective} needs at least 2 groups"):
        plan_of(objective, **{"batch.groups": 1})


def test_a_precision_of_auto_is_settled_by_the_plan() -> None:
    config = load_config(recipe=None, overrides=[], flags={"schedule.steps": 1})
    assert config.run.precision == "auto"
    plan = make_plan(config, EmptySource(), world=1, precision="bf16")
    assert (plan.config.run.precision, plan.identity["run"]["precision"]) == ("bf16", "bf16")
    assert plan_of("stablerep", **{"run.precision": "tf32"}).identity["run"]["precision"] == "tf32"


def test_a_cache_is_no_part_of_what_is_learned(tmp_path: Path) -> None:
    kept = plan_of("stablerep", **{"data.cache_dir": str(tmp_path), "data.cache_gb": 0.5})
    assert kept.demand.cache == Cache(folder=tmp_path, max_bytes=500_000_000)
    assert kept.identity == plan_of("stablerep").identity


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"data.cache_gb": 5}, ["cache_gb is given without cache_dir"]),
        ({"data.cache_dir": "s3://bucket/cache"}, ["data.cache_dir s3://bucket/cache", "path"]),
        ({"data.cache_dir": "/dev/shm/cache"}, ["/dev/shm/cache", "shared memory", "a disk"]),
        ({"data.cache_dir": "/nvme", "data.cache_gb": 0}, ["data.cache_gb"]),
    ],
)
def test_a_cache_that_cannot_be_is_refused(flags: dict[str, Any], words: list[str]) -> None:
    with refused(ConfigError, *words):
        plan_of("stablerep", **flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"schedule.warmup_steps": 20}, ["20 steps", "all 4 steps", "schedule.warmup_steps=4 "]),
        ({"schedule.warmup_epochs": 9}, ["9 steps", "all 4 steps", "schedule.warmup_epochs=4.0 "]),
    ],
)
def test_a_warm_up_beyond_the_end_is_refused_with_the_value_that_fits(
    flags: dict[str, Any], words: list[str]
) -> None:
    class TwoGroups(EmptySource):
        num_groups = 2

    values = {"schedule.steps": 4, "batch.groups": 2} | flags
    config = load_config(recipe=None, overrides=[], flags=values)
    with refused(ConfigError, *words):
        make_plan(config, TwoGroups(), world=1)
