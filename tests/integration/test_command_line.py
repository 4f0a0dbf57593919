"""What a user reads and types: help, examples, defaults, JSON, standard input, refusals."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import click
import pytest

from manifests.foundation.settings import check
from pipeline.commented import commented_recipe, tables
from pipeline.config import load_config
from pipeline.renderers import RENDERERS
from prompts.sources import PROMPT_SOURCES
from synth import COMMANDS, GROUPS, main
from tests.conftest import ROOT
from tests.labelled_sets import make_folder
from tests.running import command, environment, write_captions
from trainer.models.encoder import build_encoder, save_encoder
from trainer.models.specs import EncoderSpec
from trainer.origin import Origin

RENDERED_BY_DEFAULT = {"renderer": "text-to-image", "source": "file", "executor": "ray"}


def run(
    *arguments: object, cwd: Path = ROOT, stdin: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment() | more,
        input=stdin,
        capture_output=True,
        text=True,
    )


def commands() -> dict[str, click.Command]:
    loaded = {name: main.get_command(click.Context(main), name) for name in COMMANDS}
    return {name: one for name, one in loaded.items() if one is not None}


def examples(verb: str) -> list[list[str]]:
    """The command lines in the help of a verb, each without `synth` and the verb."""
    text = (commands()[verb].epilog or "").replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines() if line[:2] == "  "]
    assert all(words[:2] == ["synth", verb] for words in lines)
    return [words[2:] for words in lines]


def test_the_overview_groups_the_verbs_and_cuts_no_summary() -> None:
    text = run("--help").stdout
    assert all(f"\n{title}:\n" in text for title in GROUPS)
    assert "..." not in text.split("Options:")[1]
    listed = re.findall(r"^  (\w+) {2,}[A-Z]", text, re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_help_of_a_verb_has_examples_that_are_valid(verb: str) -> None:
    assert 1 <= len(examples(verb)) <= 3
    for words in examples(verb):
        words = words[: words.index(">")] if ">" in words else words
        commands()[verb].make_context(verb, list(words))  # raises for what is no option


def test_no_default_is_typed_by_hand() -> None:
    for half in ("pipeline", "trainer"):
        for path in (ROOT / half / "commands").glob("*.py"):
            assert "[default:" not in path.read_text(), path


def test_the_help_says_the_defaults_of_the_settings() -> None:
    text = " ".join(run("generate", "--help").stdout.split())
    assert "Views of each caption. [default: 10]" in text
    assert "Captions in one shard. [default: 100]" in text
    assert "--executor [ray|inline|MODULE:CLASS] What runs the workers. [default: ray]" in text
    text = " ".join(run("train", "--help").stdout.split())
    assert "Groups in a step, over all ranks. [default: 64]" in text
    assert "Name of a timm model. [default: vit_base_patch16_224]" in text


def test_an_executor_that_is_none_is_wrong_usage() -> None:
    done = run("generate", "--prompts", "x.txt", "--out", "set", "--executor", "inlin")
    assert done.returncode == 2
    assert (
        "'inlin' is not one of ray, inline or MODULE:CLASS; did you mean 'inline'?" in done.stderr
    )


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("source", PROMPT_SOURCES)
def test_a_recipe_of_init_is_valid_and_its_comments_are_defaults(
    renderer: str, source: str, tmp_path: Path
) -> None:
    given = RENDERED_BY_DEFAULT | {"renderer": renderer, "source": source}
    text = commented_recipe(**given)
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    config = load_config(recipe=path, overrides=[], flags={})
    # With each comment of a value made a key, the recipe says what it says without them.
    path.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    said = load_config(recipe=path, overrides=[], flags={})
    for table, model in tables(**given).items():
        keys = set(model.model_fields)
        pair = getattr(config, table), getattr(said, table)
        short, full = (one if isinstance(one, dict) else one.model_dump() for one in pair)
        named = set(re.findall(r"^(?:# )?(\w+)(?: = | is not set)", text, re.MULTILINE))
        assert keys <= named
        values = [check(model, dict(one), origin=table) for one in (short, full)]
        assert values[0] == values[1]


def test_init_writes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("mine")
    assert "exists already" in run("init", "recipe.toml", cwd=tmp_path).stderr
    assert (tmp_path / "recipe.toml").read_text() == "mine"
    done = run("init", "other.toml", cwd=tmp_path)
    assert (
        done.stdout
        == "other.toml: edit it, then run synth generate --recipe other.toml --out SET\n"
    )
    assert tomllib.loads((tmp_path / "other.toml").read_text())["execution"] == {"executor": "ray"}


def test_recipes_lists_those_of_the_package_and_prints_one() -> None:
    lines = run("recipes").stdout.splitlines()
    names = [path.stem for path in sorted((ROOT / "trainer" / "recipes").glob("*.toml"))]
    assert [line.split("\t")[0] for line in lines] == names
    assert all(line.split("\t")[1].endswith((".", "learn.", ")")) for line in lines), lines
    assert run("recipes", "demo").stdout == (ROOT / "trainer/recipes/demo.toml").read_text()
    refused = run("recipes", "dmo")
    assert refused.returncode == 1
    assert "did you mean 'demo'?" in refused.stderr


_BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import synth
sys.exit(synth.main(sys.argv[2:], prog_name="synth"))
"""
EXTRAS = (
    *("accelerate", "diffusers", "jaxtyping", "jinja2", "moderngl", "open_clip", "peft", "PIL"),
    *("prometheus_client", "ray", "safetensors", "simplejpeg", "tensorboard", "timm", "torch"),
    *("torchvision", "transformers", "webdataset", "s3fs", "gcsfs", "adlfs"),
)
"""Packages that the extras install and a bare install does not."""


def blocked(
    packages: tuple[str, ...], *arguments: object, cwd: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _BLOCKED, ",".join(packages), *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "verb", [name for name in COMMANDS if name != "demo"]
)  # it runs others alone
def test_a_bare_install_works_or_says_in_one_line_what_to_install(
    verb: str, tmp_path: Path, golden_copy: Path
) -> None:
    words = examples(verb)[0]  # demo is left out: it only runs other verbs, each by itself
    done = blocked(EXTRAS, verb, *words, cwd=golden_copy)
    lines = done.stderr.strip().splitlines()
    assert not any("Traceback" in line for line in lines), done.stderr
    if done.returncode:
        assert lines[-1].startswith("Error: "), done.stderr
        assert "pip install 'synth-rep[" in lines[-1], done.stderr
    assert blocked(EXTRAS, verb, "--help", cwd=tmp_path).returncode == 0


@pytest.fixture
def golden_copy(tmp_path: Path) -> Path:
    """A folder with what the examples in the help name: sealed sets, captions and a run."""
    for name in ("set", "animals", "plants"):
        shutil.copytree(ROOT / "tests" / "contract" / "golden", tmp_path / name)
    write_captions(tmp_path)
    (tmp_path / "recipe.toml").write_text('[prompts]\nfile = "captions.txt"\n')
    make_folder(tmp_path / "photos", train={"a": 3, "b": 3}, test={"a": 2, "b": 2})
    (tmp_path / "run").mkdir()
    spec = EncoderSpec(model="synth_small_conv", input_px=16)
    made = Origin(objective="stablerep", steps=1, url="set", root_sha256="0" * 64).to_json()
    save_encoder(tmp_path / "run", build_encoder(spec), spec, made)
    return tmp_path


@pytest.mark.parametrize("package", ["manifests", "prompts", "pipeline", "trainer"])
def test_a_package_in_the_place_of_ours_is_named_and_not_imported(
    package: str, tmp_path: Path
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise RuntimeError('imported')")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    done = run("status", "set", PYTHONPATH=path, PYTHONSAFEPATH="1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {tmp_path / package / '__init__.py'}: is found in place of ")
    assert "rename it" in line
    # In the working directory alone it is not even looked at.
    assert "no shard set here" in run("status", "set", cwd=tmp_path).stderr


def test_a_package_that_another_distribution_has_overwritten_is_named(tmp_path: Path) -> None:
    """An installation in which another distribution has put a package of the same name."""
    site, ours = tmp_path / "site", "import synth as it; it.main()"
    (site / "synth_rep-1.dist-info").mkdir(parents=True)
    (site / "other-1.dist-info").mkdir()
    for name in ("manifests", "prompts", "pipeline", "trainer"):
        (site / name).symlink_to(ROOT / name) if name != "trainer" else (site / name).mkdir()
    (site / "synth.py").write_bytes((ROOT / "synth.py").read_bytes())
    foreign = b"raise RuntimeError('imported')"
    (site / "trainer" / "__init__.py").write_bytes(foreign)
    digest = urlsafe_b64encode(sha256(foreign).digest()).rstrip(b"=").decode()
    for name, recorded in (("synth_rep", "AAAA"), ("other", digest)):
        folder = site / f"{name}-1.dist-info"
        folder.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1\n"
        )
        folder.joinpath("RECORD").write_text(f"trainer/__init__.py,sha256={recorded},30\n")
    done = subprocess.run(
        [sys.executable, "-P", "-c", ours, "status", "set"],
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    (line,) = done.stderr.splitlines()
    assert "was overwritten by the distribution other" in line


@pytest.mark.slow
def test_captions_from_standard_input_make_a_set_that_resumes_without_them(tmp_path: Path) -> None:
    more = ("--renderer", "tests.renderers:Stripes", "--views-per-subject", 2)
    options = ("--out", "set", "--executor", "inline", "--subjects-per-shard", 1, *more)
    text = "a red fox\n\na blue door\n"
    path = {"PYTHONPATH": str(ROOT)}
    done = run("generate", "--prompts", "-", *options, cwd=tmp_path, stdin=text, **path)
    assert "4 views in 2 shards" in done.stdout, done.stderr
    (tmp_path / "set" / "dataset.json").unlink()
    (tmp_path / "set" / "manifests" / "000001.parquet").unlink()
    trust = ("--trust", "tests.renderers:Stripes")
    again = run("generate", "--out", "set", "--executor", "inline", *trust, cwd=tmp_path)
    assert "4 views in 2 shards" in again.stdout, again.stderr
    empty = run("generate", "--prompts", "-", "--out", "x", *options[2:], cwd=tmp_path)
    assert "standard input: is empty, expected at least one caption" in empty.stderr


def test_json_is_one_object_on_standard_output(golden_copy: Path) -> None:
    def of(*arguments: object, status: int = 0) -> dict[str, object]:
        done = run(*arguments, "--json", cwd=golden_copy)
        assert done.returncode == status, done.stderr
        (line,) = done.stdout.splitlines()
        document: dict[str, object] = json.loads(line)
        return document

    status = of("status", "set")
    assert status["is_sealed"] is True
    assert status["num_views_planned"] == status["num_views"]
    verified = of("verify", "set")
    assert verified["is_right"] is True
    assert verified["problems"] == []
    (row,) = of("show", "set", "000000000_000")["rows"]
    assert isinstance(row, dict)
    assert row["key"] == "000000000_000"
    (golden_copy / "set" / "data" / "000000.tar").write_bytes(b"")
    broken = of("verify", "set", status=1)
    assert broken["is_right"] is False
    assert broken["problems"]


@pytest.mark.parametrize("columns", ["40", "200"])
def test_a_terminal_without_utf8_gets_ascii(columns: str, golden_copy: Path) -> None:
    (golden_copy / "set").rename(golden_copy / "grün")
    for verb, *more in (("status",), ("show", "000000000_000")):
        ascii_only = {"PYTHONIOENCODING": "ascii", "COLUMNS": columns}
        done = run(verb, "grün", *more, cwd=golden_copy, **ascii_only)
        assert done.returncode == 0, done.stderr
        assert (done.stdout + done.stderr).isascii()


@pytest.mark.parametrize("verb", [None, "generate", "publish"])
def test_help_fits_into_40_columns(verb: str | None) -> None:
    words = [verb, "--help"] if verb else ["--help"]
    text, _, _ = run(*words, COLUMNS="40").stdout.partition("Examples:")  # which are not broken
    assert max(map(len, text.splitlines())) <= 40


@pytest.mark.slow
def test_json_of_scores_holds_what_the_score_file_holds(tmp_path: Path) -> None:
    make_folder(tmp_path / "photos", train={"a": 3, "b": 3}, test={"a": 2, "b": 2})
    more = ("--with", "knn", "--set", "knn.neighbours=3", "--out", "scores.json", "--json")
    done = run("evaluate", "pixels:8", "--on", "imagefolder:photos", *more, cwd=tmp_path)
    document = json.loads(done.stdout)
    assert document["files"] == ["scores.json"]
    assert document["scores"] == [json.loads((tmp_path / "scores.json").read_text())]


def test_ctrl_c_of_any_verb_is_status_130(tmp_path: Path) -> None:
    code = (
        "import sys, synth, manifests.shard_set as module\n"
        "def stop(url): raise KeyboardInterrupt\n"
        "module.ShardSet.open = stop\n"
        "sys.exit(synth.main(['verify', 'set']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.strip() == "stopped by Ctrl-C"
