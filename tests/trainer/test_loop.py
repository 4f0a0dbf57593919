"""What the loop does when a step goes wrong, in this process."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import Table
from tests.picture_sets import make_picture_set
from tests.sets import refused
from trainer.checkpointing import checkpoints, load_checkpoint, step_of
from trainer.config import load_config
from trainer.data.opening import open_source
from trainer.errors import CheckpointError, DivergedError
from trainer.frozen_encoders import open_encoder
from trainer.kept_encoders import load_kept
from trainer.learner import make_learner
from trainer.loop import train
from trainer.losses import unit
from trainer.models.encoder import load_encoder
from trainer.objective_settings import Arrangement
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers
from trainer.planning import Plan, make_plan


class SometimesConfig(Table):
    name: str
    broken: tuple[int, ...] = ()
    """Steps, counted from 1, whose loss is not finite."""


class Sometimes(ObjectiveModule):
    """The spread of the features, which is not finite in some steps."""

    Config = SometimesConfig

    def __init__(self, config: SometimesConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.head = nn.Linear(towers.num_features, 4)
        self.broken = config.broken
        self.step = 0

    @classmethod
    def arrangement(cls, config: SometimesConfig) -> Arrangement:
        return Arrangement(min_views=2)

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        features = towers.image(batch.crops[0].images)
        self.step += 1
        if self.step in self.broken:
            features = features * torch.nan
        return LossTerms(total=unit(self.head(features)).std(0).mean())


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sets") / "set"
    make_picture_set(folder)
    return str(folder)


def plan_of(url: str, **flags: Any) -> Plan:
    values = {
        "objective.name": f"{__name__}:Sometimes",
        "model.model": "synth_small_conv",
        "model.input_px": 16,
        "batch.groups": 4,
        "schedule.steps": 8,
        "run.log_every": 1,
    }
    config = load_config(recipe=None, overrides=[], flags=values | flags)
    return make_plan(config, open_source(url), world=1)


def run(url: str, out: Path, **flags: Any) -> list[dict[str, float]]:
    """Train to the end; the values of each step."""
    logged: list[dict[str, float]] = []
    stopped_by = train(
        plan_of(url, **flags),
        out,
        device=torch.device("cpu"),
        on_step=lambda step, values: logged.append(values),
    )
    assert stopped_by is None
    return logged


@pytest.mark.parametrize("drops", [True, False])
def test_another_grad_cache_is_refused_where_it_changes_what_is_dropped(
    drops: bool, url: str, tmp_path: Path
) -> None:
    tower = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2}
    flags = {
        "model.model": "vit_tiny_patch16_224",
        "model.args": tower | {"drop_path_rate": 0.3 if drops else 0.0},
        "schedule.steps": 1,
    }
    run(url, tmp_path, **flags, **{"run.grad_cache": 2})
    run(url, tmp_path, **flags, **{"run.grad_cache": 2})
    if drops:
        with refused(CheckpointError, "run.grad_cache=2", "give the same"):
            run(url, tmp_path, **flags, **{"run.grad_cache": 3})
    else:
        run(url, tmp_path, **flags, **{"run.grad_cache": 3})


def test_step_whose_gradients_are_not_finite_changes_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither weights nor the statistics of batch norms, which saw the broken pixels."""
    from trainer import learner

    normalize = learner.normalize
    calls = []

    def broken(images: Tensor, spec: Any) -> Tensor:
        calls.append(1)
        pixels = normalize(images, spec)
        return pixels * torch.nan if len(calls) == 3 else pixels

    monkeypatch.setattr(learner, "normalize", broken)
    logged = run(url, tmp_path)
    assert [values["grad_norm"] == values["grad_norm"] for values in logged].count(False) == 1
    assert "step 3: gradients are not finite, it was skipped" in caplog.text
    encoder, _ = load_encoder(tmp_path)
    assert all(bool(tensor.isfinite().all()) for tensor in encoder.state_dict().values())


def test_broken_steps_are_skipped_and_the_others_are_learned_from(url: str, tmp_path: Path) -> None:
    logged = run(url, tmp_path, **{"objective.broken": (2, 3, 6)})
    norms = [values["grad_norm"] for values in logged]
    assert [step for step, norm in enumerate(norms, 1) if not math.isfinite(norm)] == [2, 3, 6]
    losses = [values["loss"] for values in logged]
    assert all(math.isfinite(losses[step]) for step in (0, 3, 4, 6, 7))
    (path,) = checkpoints(tmp_path)
    moments = load_checkpoint(path)["optimizer"]["state"]
    assert {int(moment["step"]) for moment in moments.values()} == {5}


def test_run_begins_with_the_weights_of_another_one(url: str, tmp_path: Path) -> None:
    """The first step of a warm-up has a rate of 0, so a run of one step exports what it began with.

    A teacher that is a copy of the tower begins with them as well."""
    first = tmp_path / "first"
    run(url, first)
    flags = {"run.init_from": str(first), "schedule.steps": 1, "schedule.warmup_steps": 1}
    run(url, tmp_path / "second", **flags)
    assert (tmp_path / "second" / "encoder.safetensors").exists()
    (one, _), (two, _) = load_encoder(first), load_encoder(tmp_path / "second")
    for (name, weight), other in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(weight, other), name
    plan = plan_of(url, **flags, **{"objective.name": "moco", "objective.queue": 8})
    learner = make_learner(plan, one.state_dict())
    teacher = learner.objective.teacher[0]  # type: ignore[attr-defined]
    for weight, other in zip(one.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_first_weights_are_part_of_the_run(url: str, tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    run(url, first)
    run(url, other, **{"run.seed": 1})
    second = tmp_path / "second"
    run(url, second, **{"run.init_from": str(first)})
    with refused(CheckpointError, "was begun with another recipe", "run.init_sha256"):
        run(url, second, **{"run.init_from": str(other)})
    with refused(ConfigError, "--init-from", "its model.input_px is 16, that of the recipe 24"):
        plan_of(url, **{"run.init_from": str(first), "model.input_px": 24})
    with refused(CheckpointError, "no exported encoder here"):
        plan_of(url, **{"run.init_from": str(tmp_path)})


def test_run_is_given_up_when_many_steps_in_a_row_are_broken(url: str, tmp_path: Path) -> None:
    with refused(DivergedError, "5 steps in a row, the last is 7", "lr_per_256"):
        run(url, tmp_path, **{"objective.broken": (1, 3, 4, 5, 6, 7)})


def test_towers_of_kept_checkpoints_can_be_evaluated(url: str, tmp_path: Path) -> None:
    flags = {"run.checkpoint_every": 2, "run.keep_checkpoints": 1, "run.keep_every": 4}
    run(url, tmp_path, **flags)
    assert [step_of(path) for path in checkpoints(tmp_path)] == [4, 8]
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    features = []
    for place in (*checkpoints(tmp_path), tmp_path):
        encoder = open_encoder(str(place), device=torch.device("cpu"), seed=None)
        with torch.inference_mode():
            features.append(encoder.encode(images))
    assert torch.equal(features[1], features[2])
    assert not torch.allclose(features[0], features[1])


def test_run_begins_with_the_tower_of_a_kept_checkpoint(url: str, tmp_path: Path) -> None:
    first, flags = tmp_path / "first", {"run.keep_every": 4, "run.keep_checkpoints": 1}
    run(url, first, **flags)
    kept, last = checkpoints(first)
    begin = {"schedule.steps": 1, "schedule.warmup_steps": 1}  # a step of rate 0
    for number, place in enumerate((kept, last, f"file://{kept}")):
        run(url, tmp_path / str(number), **begin, **{"run.init_from": str(place)})
    (fourth, _), (eighth, _), (stored, _) = (load_encoder(tmp_path / name) for name in "012")
    (finished, _), (open_fourth, _) = load_encoder(first), load_kept(kept)
    for tower, other in ((fourth, open_fourth), (eighth, finished), (stored, fourth)):
        for (name, weight), theirs in zip(
            tower.named_parameters(), other.parameters(), strict=True
        ):
            assert torch.equal(weight, theirs), name
    with refused(CheckpointError, "was begun with another recipe", "run.init_sha256"):
        run(url, tmp_path / "0", **begin, **{"run.init_from": str(last)})
    with refused(ConfigError, "--init-from", "its model.input_px is 16, that of the recipe 24"):
        plan_of(url, **{"run.init_from": str(kept), "model.input_px": 24})


def test_checkpoint_without_its_run_is_refused(url: str, tmp_path: Path) -> None:
    run(url, tmp_path / "run")
    (path,) = checkpoints(tmp_path / "run")
    alone = tmp_path / "elsewhere" / "checkpoints" / path.name
    alone.parent.mkdir(parents=True)
    path.rename(alone)
    with refused(CheckpointError, str(tmp_path / "elsewhere"), "no run here"):
        open_encoder(str(alone), device=torch.device("cpu"), seed=None)
    with refused(CheckpointError, "not a readable checkpoint"):
        open_encoder(str(path), device=torch.device("cpu"), seed=None)
