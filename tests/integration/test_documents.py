"""The commands and the code in the documents are run, and do what the documents say."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
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


def test_commands_of_the_readme_and_the_pages_run_in_order(tmp_path: Path) -> None:
    first, train, every_day, evaluate = blocks("README.md", "bash")
    shell(first, tmp_path)
    shell(train, tmp_path)
    assert (tmp_path / "demo-set" / "run" / "encoder.safetensors").exists()
    looked = shell(every_day, tmp_path)
    assert "all right: 8 views" in looked
    assert "equal to the byte" in looked
    assert (tmp_path / "demo-set" / "report.html").stat().st_size > 10_000
    assert "knn" in shell(evaluate, tmp_path)
    for page in sorted((ROOT / "docs").glob("*.md")):
        if page.name == "extend.md":  # its commands need the code beside them
            continue
        for script in blocks(f"docs/{page.name}", "bash"):
            shell(script, tmp_path)
    for code in blocks("docs/format.md", "python"):
        assert "000000" in shell(f"python - <<'END'\n{code}\nEND", tmp_path)


PAGES = ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


def commands(document: str) -> list[list[str]]:
    """The arguments of every `synth` command in the console blocks of a document."""
    lines = "\n".join(blocks(document, "console")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [line[line.index("synth") + 1 :] for line in words if "synth" in line]


@pytest.mark.parametrize("document", [page for page in PAGES if commands(page)])
def test_options_of_every_command_exist(document: str) -> None:
    from synth import main

    for name, *arguments in commands(document):
        command = main.get_command(click.Context(main), name)
        assert command is not None, name
        try:
            command.make_parser(click.Context(command)).parse_args(arguments)
        except click.UsageError as error:
            pytest.fail(f"{document}: synth {name}: {error.format_message()}")


def test_site_is_built_without_a_broken_link(tmp_path: Path) -> None:
    shell(f"python -m sphinx -q -W --keep-going -c docs . {tmp_path / 'site'}", ROOT)
    page = (tmp_path / "site" / "README.html").read_text()
    assert 'href="docs/generate.html"' in page


def test_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_recipe_that_is_shown_is_a_valid_one(tmp_path: Path) -> None:
    from manifests.foundation.settings import check
    from pipeline.config import load_config
    from pipeline.renderers import renderer_class

    (recipe,) = blocks("docs/generate.md", "toml")
    path = tmp_path / "recipe.toml"
    path.write_text(recipe)
    config = load_config(recipe=path, overrides=[], flags={})
    renderer = renderer_class(config.renderer["name"])
    assert check(renderer.Config, config.renderer, origin="generate.md", table="renderer")


def test_suite_that_is_shown_is_a_valid_one(tmp_path: Path) -> None:
    from manifests.foundation.settings import check, read_settings
    from trainer.evaluations import choose_evaluations
    from trainer.suites import Suite

    (text,) = blocks("docs/evaluate.md", "toml")
    path = tmp_path / "suite.toml"
    path.write_text(text)
    values = read_settings(recipe=path, overrides=(), flags={})
    suite = check(Suite, values, origin="evaluate.md")
    assert [entry.title() for entry in suite.sets] == ["imagenet", "cars", "flowers"]
    assert list(choose_evaluations(suite.evaluations, suite.settings)) == [*suite.evaluations]


HERE = "PYTHONPATH=. "
"""As a user of an installed package writes it; a test of a checkout names that folder, too."""


def test_contributed_renderer_works_as_shown(tmp_path: Path) -> None:
    code, laws, _ = blocks("docs/extend.md", "python")
    generate, _ = blocks("docs/extend.md", "bash")
    (tmp_path / "gradient.py").write_text(code)
    (tmp_path / "test_gradient.py").write_text(laws)
    (tmp_path / "captions.txt").write_text("a sky\na sea\n")
    script = f"{generate.removeprefix(HERE)}synth verify set --sealed"
    assert "all right: 20 views" in shell(script, tmp_path, tmp_path)
    assert "9 passed" in shell("python -m pytest -q test_gradient.py", tmp_path, tmp_path)


def test_contributed_objective_works_as_shown(tmp_path: Path) -> None:
    *_, code = blocks("docs/extend.md", "python")
    (tmp_path / "uniform.py").write_text(code)
    make_picture_set(tmp_path / "set")
    _, train = blocks("docs/extend.md", "bash")
    shell(train.removeprefix(HERE), tmp_path, tmp_path)
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert {"near", "spread"} <= json.loads(last).keys()


def test_test_files_named_in_documents_exist() -> None:
    for document in ("ARCHITECTURE.md", "manifests/SPEC.md", "CONTRIBUTING.md", *PAGES):
        for path in re.findall(r"tests/[\w/]+\.py", (ROOT / document).read_text()):
            assert (ROOT / path).exists(), f"{document}: {path}"
