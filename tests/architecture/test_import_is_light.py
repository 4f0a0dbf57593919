"""`synth --help` is quick because it imports nothing heavy."""

import subprocess
import sys

import pytest

from synth import COMMANDS
from tests.conftest import ROOT

HEAVY = ("torch", "ray", "diffusers", "transformers", "webdataset", "open_clip", "pyarrow", "PIL")


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


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
