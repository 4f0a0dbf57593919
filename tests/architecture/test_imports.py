"""The import contracts of pyproject.toml hold (ARCHITECTURE.md), and would be seen to break."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import importlinter.api
import pytest

from tests.conftest import ROOT

CONTRACTS = importlinter.api.read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
NAMES = {contract["id"]: contract["name"] for contract in CONTRACTS}
LINT = Path(sys.executable).with_name("lint-imports")

VIOLATIONS = {
    "system-layers": (
        "trainer/planted.py",
        "import pipeline.config",
        "trainer.planted -> pipeline.config",
    ),
    "trainer-is-standalone": (
        "trainer/errors.py",
        "def f() -> None:\n    import ray",
        "trainer.errors -> ray",
    ),
    "contract-is-light": ("manifests/planted.py", "import torch", "manifests.planted -> torch"),
    "foundation-below-the-format": (
        "manifests/foundation/files.py",
        "import manifests.storage.reading",
        "manifests.foundation.files -> manifests.storage.reading",
    ),
    "foundation-knows-no-format": (
        "manifests/storage/local.py",
        "import manifests.schema",
        "manifests.storage.local -> manifests.schema",
    ),
    "pipeline-layers": (
        "pipeline/errors.py",
        "import pipeline.worker",
        "pipeline.errors -> pipeline.worker",
    ),
    "trainer-layers": ("trainer/unplaced.py", "x = 1", "- trainer.unplaced"),
    "plugins-are-independent": (
        "pipeline/audits/unplaced.py",
        "import pipeline.audits.non_finite",
        "pipeline.audits.unplaced -> pipeline.audits.non_finite",
    ),
    "ray-in-one-place": ("pipeline/worker.py", "import ray", "pipeline.worker -> ray"),
    "diffusers-only-in-renderers": (
        "pipeline/models.py",
        "import diffusers",
        "pipeline.models -> diffusers",
    ),
    "no-cycles": ("manifests/canonical.py", "import manifests.rows", "- .canonical -> .rows"),
}
"""A line that breaks each contract, the file where it is planted, and what the linter calls it."""

PLUGINS = {
    "pipeline/renderers": "text_to_image",
    "pipeline/audits": "blank",
    "pipeline/execution": "inline",
    "prompts/sources": "file",
    "trainer/objectives": "clip",
    "trainer/objective_settings": "clip",
    "trainer/exports": "timm_encoder",
    "trainer/evaluations": "knn",
    "trainer/frozen_encoders": "pixels",
    "trainer/labelled_sets": "wds",
}
"""A plug-in of each folder of plug-ins, for a planted sibling to import."""


def lint(folder: Path) -> str:
    """What import-linter says of all contracts."""
    return subprocess.run(
        [LINT, "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


@pytest.fixture(scope="module")
def of_this_repository() -> str:
    return lint(ROOT)


@pytest.fixture(scope="module")
def of_planted_violations(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A copy of the packages in which every contract is broken, and every folder of plug-ins."""
    folder = tmp_path_factory.mktemp("planted")
    for name in ("manifests", "prompts", "pipeline", "trainer"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.safetensors", "*.json")
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    lines = [(path, code) for path, code, _ in VIOLATIONS.values()]
    for plugins, plugin in PLUGINS.items():
        lines.append((f"{plugins}/planted.py", f"import {plugins.replace('/', '.')}.{plugin}"))
    for path, code in lines:
        with (folder / path).open("a") as file:
            file.write(f"\n{code}\n")
    return lint(folder)


@pytest.mark.parametrize("contract", NAMES)
def test_import_contract_is_kept(contract: str, of_this_repository: str) -> None:
    assert f"{NAMES[contract]} KEPT" in of_this_repository, of_this_repository


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_planted_violation_is_caught(contract: str, of_planted_violations: str) -> None:
    assert VIOLATIONS[contract][2] in report_on(contract, of_planted_violations)


@pytest.mark.parametrize("folder", PLUGINS)
def test_plugin_that_imports_a_sibling_is_caught(folder: str, of_planted_violations: str) -> None:
    package = folder.replace("/", ".")
    chain = f"{package}.planted -> {package}.{PLUGINS[folder]}"
    assert chain in report_on("plugins-are-independent", of_planted_violations)


def report_on(contract: str, output: str) -> str:
    """The linter's words on one broken contract."""
    name = NAMES[contract]
    _, heading, report = output.partition(f"\n{name}\n{'-' * len(name)}\n")
    assert heading, f"{name} is kept"
    return re.split(r"\n---+\n", report)[0]


def test_every_contract_has_a_planted_violation() -> None:
    assert set(NAMES) == set(VIOLATIONS)
