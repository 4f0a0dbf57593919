"""What a user gives away says nothing of the machine that it was made on."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from manifests.shard_set import ShardSet
from pipeline.models import EMBEDDED_FOLDER
from synth import main
from tests.sets import tree

OPTIONS = ("--executor", "inline", "--steps", 1, "--views-per-subject", 2, "--size", 8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def generate(captions: Path, out: Path, *more: object) -> ShardSet:
    result = run("generate", "--prompts", captions, "--out", out, *OPTIONS, *more)
    assert result.exit_code == 0, result.output
    return ShardSet.open(str(out))


def write(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("a penguin\nan owl\n")
    return path


@pytest.mark.slow
def test_a_set_is_the_same_whatever_the_captions_file_is_called(tmp_path: Path) -> None:
    one = generate(write(tmp_path / "captions.txt"), tmp_path / "one").seal()
    two = generate(write(tmp_path / "elsewhere/renamed.txt"), tmp_path / "two").seal()
    assert one is not None
    assert two is not None
    assert one.root_sha256 == two.root_sha256


@pytest.mark.slow
def test_no_file_of_a_set_names_a_folder_of_the_machine(tmp_path: Path) -> None:
    """And yet a resume finds the model, and so does the check of a view."""
    model = tmp_path / "my model"
    shutil.copytree(EMBEDDED_FOLDER, model)
    captions, out = write(tmp_path / "captions.txt"), tmp_path / "set"
    shards = generate(captions, out, "--model", model)
    files = tree(out)
    assert [path for path, data in files.items() if str(tmp_path).encode() in data] == []
    assert shards.recipe.environment["config"]["prompts"]["file"] == "captions.txt"
    assert shards.recipe.settings["renderer"]["model"] == "my model"
    for path in ("dataset.json", "README.md"):
        (out / path).unlink()
    (out / shards.layout.manifest(0)).unlink()
    resumed = run("generate", "--out", out, "--executor", "inline")
    assert resumed.exit_code == 0, resumed.output
    again = {path: data for path, data in tree(out).items() if not path.startswith("stats/")}
    assert again == {path: data for path, data in files.items() if path in again}
    key = shards.manifest(0).rows[0].key
    assert run("show", out, key, "--render").exit_code == 0
    shutil.rmtree(tmp_path / "cache")  # as on another machine
    elsewhere = run("show", out, key, "--render")
    assert elsewhere.exit_code == 1
    assert "my model: no such folder" in elsewhere.output
    assert run("show", out, key, "--render", "--model", model).exit_code == 0


@pytest.mark.slow
def test_a_model_in_a_folder_is_known_to_the_sets_that_are_made_from_a_set(tmp_path: Path) -> None:
    model = tmp_path / "my model"
    shutil.copytree(EMBEDDED_FOLDER, model)
    out, grown, part = tmp_path / "set", tmp_path / "grown", tmp_path / "parts" / "a"
    captions = tmp_path / "captions.txt"
    captions.write_text("a penguin\nan owl\na bus\na car\na skull\ntea\n")
    generate(captions, out, "--model", model)
    more = ("--views-per-subject", 3, "--executor", "inline")
    result = run("grow", out, "--out", grown, *more)
    assert result.exit_code == 0, result.output
    result = run("split", grown, "--parts", "a=0.5,b=0.5", "--out", tmp_path / "parts")
    assert result.exit_code == 0, result.output
    for url in (grown, part):
        key = ShardSet.open(str(url)).manifest(0).rows[-1].key
        result = run("show", url, key, "--render")
        assert result.exit_code == 0, result.output
