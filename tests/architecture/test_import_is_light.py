"""A command is quick where it imports nothing heavy: help, refusals, a set that is made already."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synth import COMMANDS
from tests.conftest import ROOT
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
