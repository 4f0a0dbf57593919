"""The laws of sources; and a source without shards, which is one class and trains."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manifests.foundation.errors import ConfigError
from tests.picture_sets import make_picture_set, make_tars
from tests.sets import refused
from trainer.config import load_config
from trainer.data.draws import generator
from trainer.data.opening import open_source
from trainer.data.sources import Demand, Group, GroupStream, Source, View
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.planning import make_plan
from trainer.testing.sources import SourceLaws


class LiveSource:
    """Makes every view when it is asked for it; never ends and has no table."""

    url = "live:noise"
    root = "noise-1"
    num_groups = None
    num_left_out = 0
    classes: Sequence[str] = ()

    def __init__(self) -> None:
        self.demand = Demand(seed=0, num_groups=1, views_per_group=1)

    def stream(self, demand: Demand) -> GroupStream:
        self.demand = demand
        return self

    def groups(self, step: int, *, rank: int, world: int) -> list[Group]:
        count = self.demand.num_groups // world
        first = step * self.demand.num_groups + rank * count
        return [self._group(number) for number in range(first, first + count)]

    def _group(self, number: int) -> Group:
        rng = generator("live", self.demand.seed, number)
        colour = rng.integers(0, 200, (1, 1, 3))
        views = [
            View(pixels=(colour + rng.integers(0, 56, (16, 16, 3))).astype(np.uint8), index=index)
            for index in range(self.demand.views_per_group)
        ]
        return Group(id=number, turn=(0,), views=views)


class TestLiveSource(SourceLaws):
    demand = Demand(seed=3, num_groups=4, views_per_group=2)

    def make_source(self) -> Source:
        return LiveSource()


class TestShardSetSource(SourceLaws):
    demand = Demand(seed=3, num_groups=8, views_per_group=3, reads=frozenset({"captions"}))

    @pytest.fixture(autouse=True)
    def _set(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "set"
        make_picture_set(self.folder)

    def make_source(self) -> Source:
        return open_source(str(self.folder))


class TestShardSetSourceOfSingleViews(TestShardSetSource):
    demand = Demand(seed=3, num_groups=8, views_per_group=1, splits_groups=True)


class TestTarSource(SourceLaws):
    @pytest.fixture(autouse=True)
    def _tars(self, tmp_path: Path) -> None:
        self.url = make_tars(tmp_path / "tars")

    def make_source(self) -> Source:
        return open_source(self.url)


def config_of(**flags: Any) -> Any:
    values = {
        "objective.head_hidden": 8,
        "objective.head_out": 4,
        "model.model": "synth_small_conv",
        "model.input_px": 16,
        "batch.groups": 4,
        "run.log_every": 1,
    }
    return load_config(recipe=None, overrides=[], flags=values | flags)


def test_endless_source_is_trained_for_a_number_of_steps(tmp_path: Path) -> None:
    plan = make_plan(config_of(**{"schedule.steps": 4}), LiveSource(), world=1)
    assert train(plan, tmp_path, device=torch.device("cpu"))
    lines = read_metrics(tmp_path)
    assert len(lines) == 4
    assert all("epoch" not in line for line in lines)


@pytest.mark.parametrize("key", ["epochs", "warmup_epochs"])
def test_endless_source_has_no_epochs(key: str) -> None:
    flags = {f"schedule.{key}": 2.0} | ({"schedule.steps": 4} if key != "epochs" else {})
    with refused(ConfigError, f"schedule.{key}", "live:noise is endless", "steps"):
        make_plan(config_of(**flags), LiveSource(), world=1)
