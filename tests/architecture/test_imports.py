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
        "import manifests.storage.store",
    ),
    "foundation-knows-no-format": ("manifests/storage/store.py", "import manifests.schema"),
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


def plant(folder: Path, path: str, code: str) -> None:
    """Copy the packages into a folder and add a line to one of their modules."""
    for name in ("manifests", "prompts", "pipeline", "trainer"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.safetensors", "*.json")
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    with (folder / path).open("a") as file:
        file.write(f"\n{code}\n")


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_planted_violation_is_caught(contract: str, tmp_path: Path) -> None:
    plant(tmp_path, *VIOLATIONS[contract])
    run = lint(contract, tmp_path)
    assert run.returncode == 1, run.stdout
    assert "BROKEN" in run.stdout


SIBLINGS = {
    "trainer/objectives/clip.py": "import trainer.objectives.contrastive",
    "trainer/exports/text_half.py": "import trainer.exports.timm_encoder",
    "trainer/evaluations/knn.py": "import trainer.evaluations.linear",
    "pipeline/execution/inline.py": "import pipeline.execution.ray_executor",
}


@pytest.mark.parametrize("path", SIBLINGS)
def test_plugin_that_imports_another_is_caught_in_every_table(path: str, tmp_path: Path) -> None:
    plant(tmp_path, path, SIBLINGS[path])
    run = lint("plugins-are-independent", tmp_path)
    assert run.returncode == 1, run.stdout
    assert path.removesuffix(".py").replace("/", ".") in run.stdout


def test_every_contract_has_a_planted_violation() -> None:
    assert {each["id"] for each in CONTRACTS} == set(VIOLATIONS)
