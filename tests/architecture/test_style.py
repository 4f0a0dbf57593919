"""Format, lint and types: what `make lint` mends, this finds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "arguments", [("ruff", "format", "--check", "."), ("ruff", "check", "."), ("mypy",)], ids=str
)
def test_code_is_clean(arguments: tuple[str, ...]) -> None:
    tool, *rest = arguments
    run = subprocess.run([BIN / tool, *rest], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
