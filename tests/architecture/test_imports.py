"""The import contracts of pyproject.toml hold (ARCHITECTURE.md), and would be seen to break."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import importlinter.api
import pytest

from tests.conftest import ROOT

CONTRACTS = importlinter.api.read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
LINT = Path(sys.executable).with_name("lint-imports")

VIOLATIONS = {
    "system-layers": ("trainer/planted.py", "import pipeline.config"),
    "trainer-is-standalone": ("trainer/errors.py", "def f() -> None:\n    import ray"),
    "contract-is-light": ("manifests/planted.py", "import torch"),
    "foundation-below-the-format": (
        "manifests/foundation/files.py",
        "import manifests.storage.reading",
    ),
    "foundation-knows-no-format": ("manifests/storage/local.py", "import manifests.schema"),
    "pipeline-layers": ("pipeline/errors.py", "import pipeline.worker"),
    "trainer-layers": ("trainer/planted.py", "x = 1"),
    "plugins-are-independent": (
        "pipeline/renderers/planted.py",
        "import pipeline.renderers.text_to_image",
    ),
    "ray-in-one-place": ("pipeline/worker.py", "import ray"),
    "diffusers-only-in-renderers": ("pipeline/models.py", "import diffusers"),
    "no-cycles": ("manifests/canonical.py", "import manifests.rows"),
}


def lint(contract: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--contract", contract, "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("contract", [each["id"] for each in CONTRACTS])
def test_import_contract_is_kept(contract: str) -> None:
    run = lint(contract, ROOT)
    assert run.returncode == 0, run.stdout


PLUGINS = {
    "pipeline/renderers": "text_to_image",
    "pipeline/audits": "blank",
    "pipeline/execution": "inline",
    "prompts/sources": "file",
    "trainer/objectives": "clip",
    "trainer/exports": "timm_encoder",
    "trainer/evaluations": "knn",
    "trainer/frozen_encoders": "pixels",
    "trainer/labelled_sets": "wds",
}
"""A plug-in of each folder of plug-ins, for a planted sibling to import."""


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_planted_violation_is_caught(contract: str, tmp_path: Path) -> None:
    assert_caught(contract, *VIOLATIONS[contract], tmp_path)


@pytest.mark.parametrize("folder", PLUGINS)
def test_plugin_that_imports_a_sibling_is_caught(folder: str, tmp_path: Path) -> None:
    code = f"import {folder.replace('/', '.')}.{PLUGINS[folder]}"
    assert_caught("plugins-are-independent", f"{folder}/planted.py", code, tmp_path)


def assert_caught(contract: str, path: str, code: str, tmp_path: Path) -> None:
    """Copy the packages into a folder, add a line to one of their modules, and lint."""
    for name in ("manifests", "prompts", "pipeline", "trainer"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors", "*.json")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / path).open("a") as file:
        file.write(f"\n{code}\n")
    run = lint(contract, tmp_path)
    assert run.returncode == 1, run.stdout
    assert "BROKEN" in run.stdout


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract["id"] for contract in CONTRACTS} == set(VIOLATIONS)
