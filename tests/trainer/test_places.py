"""A run in a store: what is there, what is refused, and who else reads it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from manifests.foundation.errors import ConfigError, SynthError
from manifests.storage.errors import StoreError
from tests.picture_sets import make_picture_set
from tests.sets import refused
from trainer.config import load_config
from trainer.data.opening import open_source
from trainer.errors import CheckpointError, DataError
from trainer.exporting import export_finished
from trainer.frozen_encoders import open_encoder
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.models.specs import SPEC
from trainer.places import open_place, recorded_precision, run_files
from trainer.planning import Plan, make_plan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sets") / "set"
    make_picture_set(folder)
    return str(folder)


def plan_of(url: str, **flags: Any) -> Plan:
    values = {
        "objective.head_hidden": 8,
        "objective.head_out": 4,
        "model.model": "synth_small_conv",
        "model.input_px": 16,
        "batch.groups": 4,
        "batch.views_per_group": 2,
        "schedule.steps": 6,
        "run.log_every": 1,
        "run.checkpoint_every": 2,
    }
    config = load_config(recipe=None, overrides=[], flags=values | flags)
    return make_plan(config, open_source(url), world=1)


def run(url: str, out: str | Path, *, fresh: bool = False, **flags: Any) -> None:
    assert train(plan_of(url, **flags), out, device=CPU, fresh=fresh) is None


def names(folder: Path) -> set[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in files if not name.startswith("tensorboard/events")}


@pytest.fixture(scope="module")
def stored(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "run"
    run(url, f"file://{folder}")
    return folder


def test_a_run_in_a_store_has_the_files_of_one_in_a_folder(
    url: str, stored: Path, tmp_path: Path
) -> None:
    run(url, tmp_path / "run")
    assert names(stored) == names(tmp_path / "run") | {"lock/000000001.json"}
    assert list((stored / "tensorboard").glob("events.*"))
    weights = "encoder.safetensors"
    assert (stored / weights).read_bytes() == (tmp_path / "run" / weights).read_bytes()
    losses = [line["loss"] for line in read_metrics(stored)]
    assert losses == [line["loss"] for line in read_metrics(tmp_path / "run")]


def test_checkpoints_stay_as_they_do_in_a_folder(url: str, tmp_path: Path) -> None:
    flags = {"run.keep_checkpoints": 1, "run.keep_every": 4, "schedule.steps": 10}
    run(url, f"file://{tmp_path}", **flags)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-000000004.pt", "step-000000008.pt", "step-000000010.pt"]


def test_a_run_goes_on_from_the_newest_checkpoint_of_its_store(
    url: str, stored: Path, tmp_path: Path
) -> None:
    out = f"file://{tmp_path}"
    begun: list[int] = []

    class KilledError(Exception):
        pass

    def kill(step: int, values: dict[str, float]) -> None:
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(plan_of(url), out, device=CPU, on_step=kill)
    train(plan_of(url), out, device=CPU, on_begin=lambda step, num_steps: begun.append(step))
    assert begun[0] in (2, 4)
    losses = [line["loss"] for line in read_metrics(tmp_path)]
    assert losses == [line["loss"] for line in read_metrics(stored)]
    weights = "encoder.safetensors"
    assert (tmp_path / weights).read_bytes() == (stored / weights).read_bytes()


def test_a_resumed_run_that_cannot_take_a_step_says_why(url: str, tmp_path: Path) -> None:
    """It saves the step that it resumed from once more, as the store has it already."""
    broken, out = tmp_path / "set", f"file://{tmp_path / 'run'}"
    shutil.copytree(url, broken)

    class KilledError(Exception):
        pass

    def kill(step: int, values: dict[str, float]) -> None:
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(plan_of(str(broken)), out, device=CPU, on_step=kill)
    for tar in (broken / "data").glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(DataError):
        train(plan_of(str(broken)), out, device=CPU)


def test_what_is_refused_names_the_url_and_not_the_working_copy(
    url: str, stored: Path, tmp_path: Path
) -> None:
    out = f"file://{stored}"
    with refused(CheckpointError, f"{out}: was begun with another recipe", "run.seed"):
        run(url, out, **{"run.seed": 1})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with refused(CheckpointError, f"file://{tmp_path}/other: holds notes.txt but no run.json"):
        run(url, f"file://{tmp_path}/other")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    with refused(CheckpointError, f"file://{broken}/run.json: cannot be read"):
        run(url, f"file://{broken}", fresh=True)
    why = "(this scheme|unknown scheme|.* install that package$)"
    for place in ("https://example.org/run", "nonsense://x/run"):
        with pytest.raises(StoreError, match=rf"^\S+: {why}"):
            run(url, place)
    with pytest.raises(ConfigError, match="is a URL, expected a path"):
        run(url, "s3:/bucket/run")


def test_fresh_starts_over_and_leaves_what_is_not_of_runs(url: str, tmp_path: Path) -> None:
    out = f"file://{tmp_path}"
    run(url, out, **{"schedule.steps": 3})
    (tmp_path / "notes.txt").touch()
    run(url, out, fresh=True, **{"run.seed": 1, "schedule.steps": 1})
    assert len(read_metrics(tmp_path)) == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000001.pt"]
    assert (tmp_path / "notes.txt").exists()


def test_a_run_in_a_store_is_evaluated_exported_and_begun_from(
    url: str, stored: Path, tmp_path: Path
) -> None:
    here = open_encoder(str(stored), device=CPU, seed=None)
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    for address in (f"file://{stored}", f"file://{stored}/encoder.safetensors"):
        there = open_encoder(address, device=CPU, seed=None)
        assert torch.equal(here.encode(images), there.encode(images))
        assert here.facts["sha256"] == there.facts["sha256"]
    last = "checkpoints/step-000000006.pt"
    step = open_encoder(f"file://{stored}/{last}", device=CPU, seed=None)
    assert torch.equal(here.encode(images), step.encode(images))
    open_encoder(f"untrained:file://{stored}", device=CPU, seed=3)
    flags = {"run.init_from": f"file://{stored}", "schedule.steps": 1}
    run(url, tmp_path / "second", **flags)
    with (
        refused(ConfigError, "is a tower of this project"),
        run_files(f"file://{stored}", option="RUN") as folder,
    ):
        export_finished(folder, "timm-hub", tmp_path / "hub")


def test_a_description_is_fetched_without_the_weights(stored: Path) -> None:
    with run_files(f"file://{stored}", option="encoder", only=SPEC) as folder:
        assert [path.name for path in folder.glob("[!.]*")] == [SPEC]


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("nothing", "/nothing: no run here"),
        ("run/checkpoints/step-000000001.pt", "step-000000001.pt: no such file in the run"),
    ],
)
def test_what_is_not_there_is_one_line(stored: Path, inside: str, words: str) -> None:
    with refused(CheckpointError, f"file://{stored.parent}", words):
        open_encoder(f"file://{stored.parent}/{inside}", device=CPU, seed=None)


def test_a_storage_that_refuses_ends_the_run_with_the_name_of_the_file(
    url: str, tmp_path: Path
) -> None:
    """A folder stands where the second checkpoint is to be."""
    (tmp_path / "checkpoints" / "step-000000002.pt").mkdir(parents=True)
    (tmp_path / "run.json").write_text('{"identity": {}, "sessions": []}')
    with pytest.raises(SynthError, match=rf"^file://{tmp_path}/checkpoints/step-000000002\.pt: "):
        run(url, f"file://{tmp_path}", **{"schedule.steps": 400})


def test_a_run_in_a_store_is_at_its_end_with_the_folders_that_it_exported(tmp_path: Path) -> None:
    (tmp_path / "timm-hub").mkdir()
    (tmp_path / "timm-hub" / "config.json").write_text("{}")
    exported = {"formats": ["timm-hub"], "files": {"timm-hub/config.json": 2}}
    document = {"identity": {}, "sessions": [], "exported": exported}
    (tmp_path / "run.json").write_text(json.dumps(document))
    for out in (f"file://{tmp_path}", str(tmp_path)):
        with open_place(out) as place:
            assert place.is_at_its_end({}, formats=["timm-hub"]), out
    (tmp_path / "timm-hub" / "config.json").unlink()
    with open_place(f"file://{tmp_path}") as place:
        assert not place.is_at_its_end({}, formats=["timm-hub"])


def test_a_run_without_steps_has_no_precision_yet(tmp_path: Path) -> None:
    document = {"identity": {"run": {"precision": "fp32"}}, "sessions": []}
    (tmp_path / "run.json").write_text(json.dumps(document))
    for out in (f"file://{tmp_path}", str(tmp_path)):
        assert recorded_precision(out) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000002.pt").touch()
    for out in (f"file://{tmp_path}", str(tmp_path)):
        assert recorded_precision(out) == "fp32"
