"""A command is quick where it imports nothing heavy: help, refusals, a set that is made already."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synth import COMMANDS
from tests.conftest import ROOT
from tests.labelled_sets import make_folder
from tests.running import write_captions

HEAVY = ("torch", "ray", "diffusers", "transformers", "webdataset", "open_clip", "pyarrow", "PIL")


LIBRARIES_OF_MODELS = {"torch", "diffusers", "transformers", "timm", "ray"}
"""Each takes seconds to import, and is needed only where something is rendered or learned."""


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def loaded_by(*arguments: object) -> tuple[str, set[str]]:
    """What a command says, and the libraries of models that it has imported at its end."""
    code = (
        "import sys, synth\n"
        "try: synth.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    said, loaded = done.stdout.split("LOADED")
    names = {name.partition(".")[0] for name in loaded.split()}
    return said + done.stderr, names & LIBRARIES_OF_MODELS


def test_help_imports_nothing_heavy() -> None:
    loaded = run(
        "import sys, synth\n"
        "try: synth.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sys.modules)"
    ).split("LOADED")[1]
    assert not {name.partition(".")[0] for name in loaded.split()} & {*HEAVY}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    text = run(f"import synth\ntry: synth.main([{command!r}, '--help'])\nexcept SystemExit: pass")
    assert text.startswith("Usage:")


@pytest.mark.parametrize("package", ["manifests", "prompts", "pipeline", "trainer", "synth"])
def test_generic_import_name_is_ours(package: str) -> None:
    found = run(f"import {package}; print({package}.__file__)").strip()
    assert found.startswith(str(ROOT))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with captions and a set that was made of them by the embedded model."""
    folder = tmp_path_factory.mktemp("made")
    write_captions(folder, ["a red fox"])
    said, loaded = loaded_by("generate", *made_by(folder))
    assert "1 view in 1 shard," in said
    assert "torch" in loaded  # so that what follows compares with something
    return folder


def made_by(folder: Path, **changes: object) -> list[object]:
    options = {
        "prompts": folder / "captions.txt",
        "out": folder / "set",
        "model": "embedded",
        "views-per-subject": 1,
        "steps": 1,
        "batch-size": 1,
        "executor": "inline",
    }
    return [word for name, value in (options | changes).items() for word in (f"--{name}", value)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "1 view in 1 shard,"),
        ({"executor": "ray"}, "1 view in 1 shard,"),
        ({"views-per-subject": 2}, "was begun with another recipe"),
        ({"model": "embeded"}, "embeded"),
        ({"size": 33}, "size 33 px"),
        ({"guidance": 0.5}, "computes no guidance"),
        ({"prompts": "nowhere.txt"}, "nowhere.txt: no such file"),
        ({"set": "views.per_subjct=3"}, "unknown key views.per_subjct"),
        ({"set": "renderer.guidanc=3"}, "unknown key renderer.guidanc"),
        ({"set": "execution.workerz=3"}, "unknown key execution.workerz"),
        ({"executor": "slurm"}, "slurm"),
        ({"renderer": "image-programs"}, "unknown key renderer.model"),
        ({"renderer": "latent-neighbourhood"}, "unknown key renderer.model"),
        ({"renderer": "text-to-imag"}, "did you mean 'text-to-image'"),
    ],
    ids=str,
)
def test_a_refusal_and_a_set_that_is_made_load_no_model_library(
    made: Path, changes: dict[str, object], expected: str
) -> None:
    said, loaded = loaded_by("generate", *made_by(made, **changes))
    assert expected in said
    assert loaded == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("generate", "--out", "{set}"), "1 view in 1 shard,"),
        (("status", "{set}"), "sealed"),
        (("verify", "{set}"), "all right: 1 view "),
        (("show", "{set}", "000000000_000"), "a red fox"),
        (("train", "{set}", "--out", "{run}", "--recipe", "dmo"), "the recipes of this package"),
        (("train", "{set}", "--out", "{run}", "--set", "run.stepz=3"), "unknown key run.stepz"),
        (("train", "{run}", "--out", "{run}", "--recipe", "demo"), "no shard set here"),
        (("evaluate", "{run}", "--on", "imagefolder:{run}"), "cannot be read"),
        (("evaluate", "{run}", "--on", "imagefoldr:x"), "did you mean 'imagefolder'"),
        (("doctor", "nope://x"), "nope://x: unknown scheme"),
        (("pictograms", "--out", "{set}"), "give a new or an empty folder"),
        (("steer", "{run}", "--out", "{run}"), "no such file or folder"),
        (("steer", "{run}", "--out", "{run}", "--directions", "zom"), "--directions zom:"),
    ],
    ids=str,
)
def test_a_command_loads_no_model_library_for_what_needs_none(
    made: Path, arguments: tuple[str, ...], expected: str
) -> None:
    places = {"set": made / "set", "run": made / "nowhere"}
    said, loaded = loaded_by(*(argument.format(**places) for argument in arguments))
    assert expected in said
    assert loaded == set()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of two groups, a run at its end, and labelled images."""
    folder = tmp_path_factory.mktemp("trained")
    write_captions(folder, ["a red fox", "a blue car"])
    loaded_by("generate", *made_by(folder, **{"views-per-subject": 2}))
    make_folder(folder / "labelled", train={"fox": 1, "car": 1}, test={"fox": 1, "car": 1})
    said, loaded = loaded_by("train", *trained_by(folder))
    assert "run: 2 steps of 4 images" in said
    assert "torch" in loaded  # so that what follows compares with something
    return folder


def trained_by(folder: Path, **changes: object) -> list[object]:
    options = {
        "out": folder / "run",
        "recipe": "demo",
        "steps": 2,
        "batch-groups": 2,
        "views-per-group": 2,
        "set": "schedule.warmup_steps=0",
    }
    values = {name: value for name, value in (options | changes).items() if value is not None}
    words = [word for name, value in values.items() for word in (f"--{name}", value)]
    return [folder / "set", *words]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "run: 2 steps of 4 images, "),
        ({"seed": 3}, "was begun with another recipe or set; these differ: run.seed."),
        ({"set": "objective.head_out=32"}, "give --set schedule.warmup_steps=2 or less"),
        ({"set": "schedule.warmup_stepz=0"}, "unknown key schedule.warmup_stepz"),
        ({"set": "objective.head_ot=32"}, "unknown key objective.head_ot"),
        ({"set": "model.input_pixels=32"}, "unknown key model.input_pixels"),
        ({"set": "augment.flip=0"}, "unknown key augment.flip"),
        ({"objective": "stablerap"}, "did you mean 'stablerep'"),
        ({"views-per-group": 6}, "no group has 6 good views"),
        ({"batch-groups": 64}, "2 groups with at least 2 good views, a step takes 64"),
        ({"views-per-group": 1}, "needs at least 2 views"),
    ],
    ids=str,
)
def test_training_loads_no_model_library_where_no_tower_is_needed(
    trained: Path, changes: dict[str, object], expected: str
) -> None:
    said, loaded = loaded_by("train", *trained_by(trained, **changes))
    assert expected in said
    assert loaded == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("export {nope} --as timm-hub --out {new}", "no such folder; give the --out of a run"),
        ("export {run} --as timmhub --out {new}", "did you mean 'timm-hub'"),
        ("export {run} --as timm-hub --out {run}", "holds README.md; give an empty folder"),
        ("evaluate {run} --on {labelled} --with kn", "did you mean 'knn'"),
        ("evaluate {run} --on {labelled} --set crop.fractoin=1", "unknown key crop.fractoin"),
        ("evaluate {run} --on {labelled} --seed 1", "only untrained:RUN draws weights"),
        ("evaluate {nope} --on {labelled}", "nope: no exported encoder here"),
        ("evaluate untrained:{nope} --on {labelled}", "nope: no exported encoder here"),
        ("evaluate untraind:{run} --on {labelled}", "did you mean 'untrained'"),
    ],
    ids=str,
)
def test_a_refused_encoder_loads_no_model_library(
    trained: Path, arguments: str, expected: str
) -> None:
    places = {name: trained / name for name in ("run", "nope", "new")}
    labelled = f"imagefolder:{trained / 'labelled'}"
    words = [word.format(labelled=labelled, **places) for word in arguments.split()]
    said, loaded = loaded_by(*words)
    assert expected in said
    assert loaded == set()


@pytest.mark.slow
def test_a_run_at_its_end_that_lacks_a_file_exports_it_again(trained: Path) -> None:
    (trained / "run" / "encoder.json").unlink()
    said, loaded = loaded_by("train", *trained_by(trained))
    assert "run: 2 steps of 4 images, " in said
    assert "torch" in loaded
    assert (trained / "run" / "encoder.json").is_file()
    assert loaded_by("train", *trained_by(trained))[1] == set()
