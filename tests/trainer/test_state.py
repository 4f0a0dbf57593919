"""What a checkpoint keeps, and what is refused when it does not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.picture_sets import make_picture_set
from tests.sets import refused
from trainer.checkpointing import checkpoints
from trainer.config import load_config
from trainer.data.opening import open_source
from trainer.errors import CheckpointError
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.planning import make_plan


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A set with one unreadable group."""
    folder = tmp_path_factory.mktemp("sets") / "set"
    shards = make_picture_set(folder)
    row = shards.manifest(1).rows[2]
    tar = folder / shards.layout.tar(1)
    data = bytearray(tar.read_bytes())
    data[row.offset + 40] ^= 4
    tar.write_bytes(data)
    return str(folder)


def trained(url: str, run: Path) -> None:
    values = {
        "objective.head_hidden": 8,
        "objective.head_out": 4,
        "model.model": "synth_small_conv",
        "model.input_px": 16,
        "batch.groups": 4,
        "batch.views_per_group": 4,
        "schedule.steps": 12,
        "run.log_every": 1,
        "run.checkpoint_every": 1,
        "run.keep_checkpoints": 12,
        "data.max_bad_groups": 1,
    }
    config = load_config(recipe=None, overrides=[], flags=values)
    plan = make_plan(config, open_source(url), world=1)
    assert train(plan, run, device=torch.device("cpu")) is None


def bad_groups(run: Path) -> list[int]:
    return [line["bad_groups"] for line in read_metrics(run)]


def test_unreadable_group_counts_once_however_often_it_is_met_and_after_a_resume(
    damaged: str, tmp_path: Path
) -> None:
    trained(damaged, tmp_path)
    counts = bad_groups(tmp_path)
    assert counts[-1] == 1
    met = counts.index(1)
    for path in checkpoints(tmp_path)[met + 1 :]:
        path.unlink()
    trained(damaged, tmp_path)  # meets it again in the epochs that follow
    assert bad_groups(tmp_path) == counts


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a step of another type": lambda state: state.update(step="three"),
    "a step after the end": lambda state: state.update(step=13),
    "weights that are a list": lambda state: state.update(learner=[1, 2]),
    "weights of another shape": lambda state: state["learner"].update(
        {"encoder.body.1.weight": torch.ones(2)}
    ),
    "moments that are text": lambda state: state.update(optimizer="none"),
    "moments of another shape": lambda state: state["optimizer"]["state"][0].update(
        exp_avg=torch.ones(3)
    ),
    "no unreadable groups": lambda state: state.pop("unreadable"),
}


@pytest.fixture(scope="module")
def finished(damaged: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    trained(damaged, run)
    return run


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_state_is_refused_in_one_line(damaged: str, finished: Path, damage: str) -> None:
    path = checkpoints(finished)[-1]
    whole = path.read_bytes()
    state = torch.load(path, weights_only=True)
    DAMAGES[damage](state)
    torch.save(state, path)
    try:
        with refused(CheckpointError, path.name, "--fresh"):
            trained(damaged, finished)
    finally:
        path.write_bytes(whole)
