"""The commands and the code in the documents are run, and do what the documents say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.picture_sets import make_picture_set

pytestmark = pytest.mark.slow


def blocks(document: str, language: str) -> list[str]:
    """The contents of the code blocks of one language, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def shell(script: str, folder: Path, *paths: Path) -> str:
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join(map(str, [ROOT, *paths]))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": search, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readme_commands_run_in_order(tmp_path: Path) -> None:
    scripts = blocks("README.md", "bash")
    assert len(scripts) >= 3
    outputs = [shell(script, tmp_path) for script in scripts]
    assert any("all right: 8 views" in output for output in outputs)
    assert any("equal to the byte" in output for output in outputs)
    assert "knn" in outputs[-1]
    assert (tmp_path / "demo-set" / "run" / "encoder.safetensors").exists()
    assert (tmp_path / "demo-set" / "report.html").stat().st_size > 10_000


def test_readme_recipe_is_a_valid_one(tmp_path: Path) -> None:
    from manifests.foundation.settings import check
    from pipeline.config import load_config
    from pipeline.renderers import renderer_class

    recipe, _ = blocks("README.md", "toml")
    path = tmp_path / "recipe.toml"
    path.write_text(recipe)
    config = load_config(recipe=path, overrides=[], flags={})
    renderer = renderer_class(config.renderer["name"])
    assert check(renderer.Config, config.renderer, origin="README.md", table="renderer")


def test_readme_suite_is_a_valid_one(tmp_path: Path) -> None:
    from manifests.foundation.settings import check, read_settings
    from trainer.evaluations import choose_evaluations
    from trainer.suites import Suite

    _, text = blocks("README.md", "toml")
    path = tmp_path / "suite.toml"
    path.write_text(text)
    values = read_settings(recipe=path, overrides=(), flags={})
    suite = check(Suite, values, origin="README.md")
    assert [entry.title() for entry in suite.sets] == ["imagenet", "cars"]
    assert list(choose_evaluations(suite.evaluations, suite.settings)) == [*suite.evaluations]


def test_contributed_renderer_works_as_shown(tmp_path: Path) -> None:
    code, laws, _ = blocks("CONTRIBUTING.md", "python")
    (tmp_path / "gradient.py").write_text(code)
    (tmp_path / "test_gradient.py").write_text(laws)
    (tmp_path / "captions.txt").write_text("a sky\na sea\n")
    generate = (
        "synth generate --prompts captions.txt --out set --renderer gradient:Gradient "
        "--views-per-subject 2 --executor inline && synth verify set --sealed"
    )
    assert "all right: 4 views" in shell(generate, tmp_path, tmp_path)
    assert "9 passed" in shell("python -m pytest -q test_gradient.py", tmp_path, tmp_path)


def test_contributed_objective_works_as_shown(tmp_path: Path) -> None:
    *_, code = blocks("CONTRIBUTING.md", "python")
    (tmp_path / "uniform.py").write_text(code)
    make_picture_set(tmp_path / "set")
    train = (
        "synth train set --out run --objective uniform:Uniform --model synth_small_conv "
        "--set model.input_px=16 --batch-groups 6 --views-per-group 3 --steps 3"
    )
    shell(train, tmp_path, tmp_path)
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert {"near", "spread"} <= json.loads(last).keys()


def test_every_file_in_the_readmes_tree_exists() -> None:
    text = (ROOT / "README.md").read_text()
    tree = text.partition("## Files")[2].partition("```\n")[2].partition("```")[0]
    folders: list[str] = []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        path = "".join([*folders[:depth], name])
        folders = [*folders[:depth], name]
        assert (ROOT / path).exists(), path


def test_test_files_named_in_documents_exist() -> None:
    for document in ("ARCHITECTURE.md", "manifests/SPEC.md", "README.md", "CONTRIBUTING.md"):
        for path in re.findall(r"tests/[\w/]+\.py", (ROOT / document).read_text()):
            assert (ROOT / path).exists(), f"{document}: {path}"
