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
from tests.trainer.test_labels import labelled_set
from trainer.addresses import beside
from trainer.config import load_config
from trainer.data.draws import generator
from trainer.data.opening import SOURCES, may_read_all, open_source
from trainer.data.sources import Demand, Group, GroupStream, Source, View
from trainer.errors import DataError
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


class TestMixture(SourceLaws):
    demand = Demand(seed=3, num_groups=8, views_per_group=1, splits_groups=True)

    @pytest.fixture(autouse=True)
    def _sources(self, tmp_path: Path) -> None:
        make_picture_set(tmp_path / "set")
        tars = make_tars(tmp_path / "tars")
        self.file = mixture(tmp_path, {str(tmp_path / "set"): 3, tars: 1})

    def make_source(self) -> Source:
        return open_source(f"mix:{self.file}")

    def test_shares_are_exact_and_each_source_has_its_own_order(self) -> None:
        stream = self.make_source().stream(self.demand)
        groups = [group for step in range(9) for group in stream.groups(step, rank=0, world=1)]
        parts = [group.turn[-1] for group in groups]
        assert parts != sorted(parts)
        for start in range(0, len(parts), 4):
            assert sorted(parts[start : start + 4]) == [0, 0, 0, 1]
        real = [group.id for group in groups if group.turn[-1] == 1]
        alone = open_source(f"wds:{self.file.parent / 'tars'}").stream(
            Demand(seed=3, num_groups=1, views_per_group=1, splits_groups=True)
        )
        assert real == [alone.groups(n, rank=0, world=1)[0].id for n in range(len(real))]


def mixture(folder: Path, weights: dict[str, int]) -> Path:
    """A file of a mixture."""
    file = folder / "mixture.toml"
    tables = [f'[[sources]]\nurl = "{url}"\nweight = {w}\n' for url, w in weights.items()]
    file.write_text("\n".join(tables))
    return file


def test_images_of_two_folders_of_tars_are_different_groups(tmp_path: Path) -> None:
    tars = [make_tars(tmp_path / "a"), make_tars(tmp_path / "b", count=7)]
    source = open_source(f"mix:{mixture(tmp_path, dict.fromkeys(tars, 1))}")
    stream = source.stream(Demand(seed=0, num_groups=2, views_per_group=1))
    groups = [group for step in range(13) for group in stream.groups(step, rank=0, world=1)]
    ids = [{group.id for group in groups if group.turn[-1] == part} for part in (0, 1)]
    assert list(map(len, ids)) == [6, 7]
    assert ids[0].isdisjoint(ids[1])


def test_paths_of_a_mixture_are_relative_to_its_file(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    make_tars(tmp_path / "tars")
    weights = {"set": 3, "wds:tars": 1}
    nested = mixture(tmp_path, weights).rename(tmp_path / "nested.toml")
    file = mixture(tmp_path, {"mix:nested.toml": 1, f"shards:{tmp_path}/set": 1})
    demand = Demand(seed=0, num_groups=2, views_per_group=1, splits_groups=True)
    for path in (nested, file):
        assert len(open_source(f"mix:{path}").stream(demand).groups(0, rank=0, world=1)) == 2
    absolute = mixture(tmp_path, {str(tmp_path / "set"): 3, f"wds:{tmp_path}/tars": 1})
    assert open_source(f"mix:{absolute}").root == open_source(f"mix:{nested}").root


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("set", "sets/set"),
        ("/set", "/set"),
        ("wds:tars", "wds:sets/tars"),
        ("wds:s3://bucket/tars", "wds:s3://bucket/tars"),
        ("s3://bucket/set", "s3://bucket/set"),
        ("wds:", "wds:"),
        ("package.module:Class:x", "package.module:Class:x"),
    ],
)
def test_an_address_in_a_file_is_beside_it(address: str, expected: str) -> None:
    assert beside(Path("sets"), address, SOURCES, option="url") == expected


def test_step_that_would_repeat_groups_of_a_mixture_is_refused(tmp_path: Path) -> None:
    tars = [make_tars(tmp_path / "a"), make_tars(tmp_path / "b", count=7)]
    inner = mixture(tmp_path, {tars[0]: 1, tars[1]: 3})
    outer = inner.rename(tmp_path / "inner.toml")
    file = mixture(tmp_path, {f"mix:{outer}": 1, tars[1]: 1})
    for address, most in ((f"mix:{outer}", 9), (f"mix:{file}", 14)):
        source = open_source(address)
        source.stream(Demand(seed=0, num_groups=most, views_per_group=1))
        with refused(DataError, f"a step takes {most + 1} groups", f"--batch-groups {most}"):
            source.stream(Demand(seed=0, num_groups=most + 1, views_per_group=1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "sources"),
        ('[[sources]]\nurl = "x"', "sources"),
        ('[[sources]]\nurl = "x"\nweight = 0\n[[sources]]\nurl = "y"', "weight"),
        ('[[sources]]\nurl = "x"\nwieght = 2\n[[sources]]\nurl = "y"', "wieght"),
        ("not toml", "not a TOML file"),
    ],
)
def test_a_file_that_is_no_mixture_is_refused(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mixture.toml"
    file.write_text(text)
    with refused(ConfigError, str(file), words):
        open_source(f"mix:{file}")
    with refused(ConfigError, "no such file", "[[sources]]"):
        open_source(f"mix:{tmp_path / 'none.toml'}")


def test_labels_of_a_mixture_are_those_of_all_its_sources(tmp_path: Path) -> None:
    sets = [labelled_set(tmp_path / name, labels) for name, labels in LABELS.items()]
    file = mixture(tmp_path, {str(tmp_path / name): 1 for name in LABELS})
    assert len(sets) == 2
    demand = Demand(seed=0, num_groups=4, views_per_group=1, reads=frozenset({"labels"}))
    stream = open_source(f"mix:{file}").stream(demand)
    assert stream.classes == ("apple", "fig", "pear")
    groups = [group for step in range(4) for group in stream.groups(step, rank=0, world=1)]
    names = {part: set[str]() for part in (0, 1)}
    for group in groups:
        names[group.turn[-1]].add(stream.classes[group.label])
    assert names == {0: {"fig", "pear"}, 1: {"apple", "pear"}}


LABELS = {"a": ["pear", "fig"], "b": ["apple", "pear"]}


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
    assert train(plan, tmp_path, device=torch.device("cpu")) is None
    lines = read_metrics(tmp_path)
    assert len(lines) == 4
    assert all("epoch" not in line for line in lines)


@pytest.mark.parametrize("key", ["epochs", "warmup_epochs"])
def test_endless_source_has_no_epochs(key: str) -> None:
    flags = {f"schedule.{key}": 2.0} | ({"schedule.steps": 4} if key != "epochs" else {})
    with refused(ConfigError, f"schedule.{key}", "live:noise is endless", "steps"):
        make_plan(config_of(**flags), LiveSource(), world=1)


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("wds:/tars", True),
        ("mix:mix.toml", True),
        ("my.module:Class:place", True),
        ("/data/set", False),
        ("s3://bucket/set.v1", False),
        ("set.v1", False),
    ],
)
def test_what_may_be_read_whole_is_planned_where_ranks_wait(address: str, may: bool) -> None:
    assert may_read_all(address) == may
