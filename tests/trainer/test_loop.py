"""What the loop does when a step goes wrong, in this process."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manifests.foundation.settings import Table
from tests.picture_sets import make_picture_set
from trainer.config import load_config
from trainer.data.opening import open_source
from trainer.loop import train
from trainer.losses import unit
from trainer.models.encoder import load_encoder
from trainer.objectives import Arrangement, Groups, LossTerms
from trainer.planning import Plan, make_plan

BROKEN_STEPS: set[int] = set()


class SometimesConfig(Table):
    name: str


class Sometimes(nn.Module):
    """The spread of the features, which is not finite in some steps."""

    Config = SometimesConfig
    arrangement = Arrangement(min_views=2)

    def __init__(self, config: SometimesConfig, num_features: int) -> None:
        super().__init__()
        self.head = nn.Linear(num_features, 4)
        self.step = 0

    def forward(self, features: Tensor, groups: Groups) -> LossTerms:
        self.step += 1
        if self.step in BROKEN_STEPS:
            features = features * torch.nan
        return LossTerms(total=unit(self.head(features)).std(0).mean(), parts={})

    def after_step(self) -> None:
        pass

    def texts(self) -> None:
        return None


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
        "batch.prompts": 4,
        "schedule.steps": 8,
        "run.log_every": 1,
    }
    config = load_config(recipe=None, overrides=[], flags=values | flags)
    return make_plan(config, open_source(url), world=1)


def run(url: str, out: Path) -> list[dict[str, float]]:
    logged: list[dict[str, float]] = []
    plan = plan_of(url)
    source = open_source(url)
    assert train(
        plan,
        source,
        out,
        device=torch.device("cpu"),
        on_step=lambda s, values: logged.append(values),
    )
    return logged


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
    assert all(bool(each.isfinite().all()) for each in encoder.state_dict().values())


def test_a_few_broken_steps_are_survived(url: str, tmp_path: Path) -> None:
    BROKEN_STEPS.update({2, 3, 6})
    try:
        logged = run(url, tmp_path)
    finally:
        BROKEN_STEPS.clear()
    assert len(logged) == 8
    assert (tmp_path / "encoder.safetensors").exists()
