"""Bad input ends in one line that says what, where and what to do, and leaves no half of a set."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from synth import main
from tests.running import command, environment, write_captions

SMALL = ["--views-per-subject", "2", "--steps", "1", "--batch-size", "4", "--executor", "inline"]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    return write_captions(tmp_path, ["a red one", "a blue two"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "set"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, *words: object, status: int = 1) -> None:
    """Require the exit status, and one line with every word; wrong usage (2) may take several.

    A set that is begun says before it what it will cost and, every ten seconds, how far it is.
    """
    text = result.output.strip()
    assert result.exit_code == status, text
    beside = re.compile(r"plan: |\w+: [\d,]+ of [\d,]+ views")
    lines = [line for line in text.splitlines() if line and not beside.match(line)]
    assert len(lines) == 1 or status == 2, text
    for word in words:
        assert str(word) in text
    assert "Traceback" not in text


def generate(captions: Path, out: Path, *more: object) -> Result:
    return run("generate", "--prompts", captions, "--out", out, *SMALL, *more)


BAD_PROMPTS = {
    "missing": ("captions.txt", None, "no such file"),
    "empty": ("captions.txt", b"\n \n", "is empty"),
    "binary": ("captions.txt", b"a\0b\n", "binary"),
    "not UTF-8": ("captions.txt", b"a fox\n\xff\xfe\n", "line 2: not UTF-8"),
    "no caption column": ("captions.csv", b"captoin,label\na,b\n", "did you mean 'captoin'"),
    "too long": ("captions.txt", b"a fox\n" + b"x" * 2001, "row 2: the caption has 2,001"),
    "NUL in JSON": (
        "captions.jsonl",
        b'{"caption": "a\\u0000"}\n',
        "row 1: the caption holds a NUL",
    ),
    "two columns of one name": ("captions.csv", b"caption,caption\na,b\n", "two columns are named"),
    "unknown suffix": ("captions.docx", b"a fox", "captions are read from"),
}


@pytest.mark.parametrize("case", BAD_PROMPTS)
def test_bad_prompt_file(case: str, tmp_path: Path, out: Path) -> None:
    name, content, words = BAD_PROMPTS[case]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refused(generate(path, out), path, words)
    assert not out.exists()


BAD_OPTIONS = {
    "NaN guidance": (
        ["--guidance", "nan"],
        "renderer.guidance.0 is nan: input should be a finite number",
    ),
    "negative guidance": (["--guidance", "-1"], "a scale of -1; give 0 or 1"),
    "guidance that computes none": (["--guidance", "0.5"], "at or below 1"),
    "guidance that does not divide": (
        ["--guidance", "1,2,3"],
        "3 variations do not divide 2",
    ),
    "zero views": (["--views-per-subject", "0"], "views.per_subject is 0"),
    "zero steps": (["--steps", "0"], "renderer.steps is 0"),
    "zero batch": (["--batch-size", "0"], "expected auto or a number of 1 or more"),
    "two inline workers": (["--workers", "2"], "unknown key execution.workers"),
    "unknown model": (["--model", "embeded"], "no such folder, and not a hub id"),
    "unknown renderer": (["--renderer", "text-to-imag"], "did you mean 'text-to-image'"),
    "renderer of no module": (["--renderer", "nowhere:Renderer"], "PYTHONPATH"),
    "renderer that is none": (
        ["--renderer", "json:JSONDecoder"],
        "json:JSONDecoder: is no renderer",
    ),
    "renderer that is a function": (["--renderer", "os:system"], "not a class"),
    "unknown audit": (["--set", "audits.use=['blnk']"], "did you mean 'blank'"),
    "audit that is not used": (["--set", "audits.blurr.x=1"], "audits.blurr is set but not used"),
    "unknown prompt source": (["--set", "prompts.source=fil"], "did you mean 'file'"),
    "key of another executor": (["--ray-address", "auto"], "unknown key execution.ray_address"),
    "unknown scheduler": (["--set", "renderer.scheduler=DDIMSchedular"], "'DDIMScheduler'"),
    "scheduler that does not fit": (
        ["--set", "renderer.scheduler=FlowMatchEulerDiscreteScheduler"],
        "does not fit a model made for UniPCMultistepScheduler",
    ),
    "unknown key": (["--set", "renderer.stepz=3"], "unknown key renderer.stepz; did you mean"),
    "unknown table": (["--set", "view.seed=3"], "unknown key view; did you mean 'views'"),
    "wrong type": (["--set", "views.seed=abc"], "views.seed is 'abc'"),
    "no value": (["--set", "views.seed"], "expected table.key=value"),
    "key with an empty part": (["--set", "views..seed=1"], "expected table.key=value"),
    "key without an end": (["--set", f"{'a.' * 100_000}a=1"], "a key of more than 32 parts"),
    "deep value": (["--set", f"views.seed={'[' * 100_000}"], "more than 32 deep"),
    "size that the model cannot render": (["--size", "33"], "multiples of 2 px"),
    "store size above size": (["--store-size", "64"], "only ever shrunk"),
    "silenced negative prompt": (
        ["--guidance", "1", "--set", "renderer.negative_prompt=blurry"],
        "steers nothing without guidance",
    ),
    "too large shards": (
        ["--subjects-per-shard", "10000", "--views-per-subject", "200"],
        "put fewer subjects into each",
    ),
    "column of a text file": (["--caption-column", "text"], "drop --caption-column text"),
    "bucket that cannot be written to": (
        ["--out", "memory://set"],
        "a URL of s3, gs, az or sftp",
    ),
    "unknown scheme": (["--out", "s4://bucket/set"], "s4"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_option(case: str, captions: Path, out: Path) -> None:
    more, words = BAD_OPTIONS[case]
    refused(generate(captions, out, *more), words)
    assert not out.exists()


def test_unknown_flag_and_command_offer_the_nearest(captions: Path, out: Path) -> None:
    refused(generate(captions, out, "--guidence", "2"), "--guidance", status=2)
    refused(run("generat"), "Did you mean generate?", status=2)
    refused(generate(captions, out, "--guidance", "two"), "such as 1,3,8", status=2)


def test_recipe_that_is_missing_or_not_toml(captions: Path, out: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    refused(generate(captions, out, "--recipe", recipe), recipe, "no such file")
    recipe.write_text("views = [")
    refused(generate(captions, out, "--recipe", recipe), recipe, "not a TOML file")
    recipe.write_text("[views]\nsead = 3\n")
    refused(generate(captions, out, "--recipe", recipe), recipe, "views.sead", "'seed'")


HOSTILE_RECIPES = {
    "deep": ("a = " + "[" * 100_000, "more than 32 deep"),
    "digits": ("a = " + "9" * 100_000, "a number cannot be read"),
    "key": (".".join("a" * 100_000) + " = 1", "a key of more than 32 parts"),
    "large": ("#" * 1_000_001, "is larger than 1,000,000 bytes"),
}


@pytest.mark.parametrize("case", HOSTILE_RECIPES)
@pytest.mark.parametrize("command", ["generate", "train"])
def test_hostile_recipe(command: str, case: str, captions: Path, out: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    text, words = HOSTILE_RECIPES[case]
    recipe.write_text(text)
    source = ["--prompts", captions] if command == "generate" else [tmp_path]
    refused(run(command, *source, "--out", out, "--recipe", recipe), recipe, words)
    assert not out.exists()


def test_no_prompts(out: Path) -> None:
    refused(run("generate", "--out", out), "give --prompts FILE")


def test_flag_is_stronger_than_set_and_set_than_file(captions: Path, tmp_path: Path) -> None:
    from pipeline.config import load_config

    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[prompts]\nfile = "{captions}"\n[views]\nseed = 1\n[renderer]\nguidance = 3\n'
    )
    read = load_config(recipe=recipe, overrides=[], flags={})
    assert (read.views.seed, read.renderer["guidance"]) == (1, 3)
    read = load_config(recipe=recipe, overrides=["views.seed=2"], flags={})
    assert read.views.seed == 2
    read = load_config(recipe=recipe, overrides=["views.seed=2"], flags={"views.seed": 3})
    assert read.views.seed == 3


@pytest.fixture
def model(tiny_models: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models["sd"], tmp_path / "model"))


def test_model_with_a_missing_part(captions: Path, out: Path, model: Path) -> None:
    shutil.rmtree(model / "unet")
    refused(generate(captions, out, "--model", model), model, "'unet' is missing")
    assert not out.exists()


def test_model_without_safetensors(captions: Path, out: Path, model: Path) -> None:
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    refused(generate(captions, out, "--model", model), "no .safetensors weights")


def test_model_with_code_of_its_own(captions: Path, out: Path, model: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    index["unet"] = ["my_unet", "MyUNet"]
    (model / "model_index.json").write_text(json.dumps(index))
    refused(generate(captions, out, "--model", model), "my_unet.MyUNet", "is never run")


def test_model_that_cannot_be_loaded(captions: Path, out: Path, model: Path) -> None:
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    refused(generate(captions, out, "--model", model), model, "cannot be loaded", "copy the model")
    assert not list(out.glob("data/*"))


def test_model_that_changed_since_the_set_was_begun(captions: Path, out: Path, model: Path) -> None:
    assert generate(captions, out, "--model", model).exit_code == 0
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # one bit of one weight
    weights.write_bytes(data)
    refused(generate(captions, out, "--model", model), "these keys differ", "files.unet/")


def test_another_recipe_on_the_same_url(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    refused(generate(captions, out, "--seed", "1", "--guidance", "3"), "dataset_seed, variations")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_output_that_is_foreign_or_a_file(captions: Path, out: Path, tmp_path: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("do not touch")
    refused(generate(captions, out), out, "thesis.tex", "choose an empty folder")
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]
    file = tmp_path / "file"
    file.write_text("")
    refused(generate(captions, file / "set"), file, "a file stands where a folder is needed")


def test_sealed_set_refuses_to_retry(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    refused(generate(captions, out, "--retry-failed"), "is sealed")


def test_readers_refuse_what_is_no_set(tmp_path: Path) -> None:
    for name in ("status", "verify", "report"):
        refused(run(name, tmp_path), tmp_path, "no shard set here")
    refused(run("show", tmp_path, "000000000_000"), "no shard set here")


def test_show_refuses_a_group_that_is_none(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    refused(run("show", out, "12"), "no group 12; it has groups 0 to 1")
    refused(run("show", out, "000000009_000"), "no view 000000009_000")


def test_no_renderer_that_a_set_names_is_run(captions: Path, out: Path) -> None:
    """A set may come from anybody, so the module of its renderer is not even imported."""
    foreign = ["--renderer", "tests.renderers:Stripes"]
    small = ["--views-per-subject", "2", "--executor", "inline"]
    made = run("generate", "--prompts", captions, "--out", out, *small, *foreign)
    assert made.exit_code == 0, made.output
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["identity"]["renderer"] == "tests.renderers:Stripes"
    for arguments in (["show", out, "000000000_000", "--render"], ["generate", "--out", out]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "If you trust it, give --trust tests.renderers:Stripes" in result.output
        assert run(*arguments, "--trust", "tests.renderers:Stripes").exit_code == 0
    result = run("show", out, "000000000_000", "--render", "--trust", "os:system")
    assert result.exit_code == 1


def test_no_audit_that_a_set_names_is_run(
    captions: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one of its identity nor one that was slipped into its settings later."""
    (tmp_path / "planted_audit.py").write_text(
        "import pathlib\n"
        "from pipeline.audits.blank import Blank\n"
        f"pathlib.Path({str(tmp_path / 'was_run')!r}).touch()\n"
        "class Planted(Blank):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    planted = "planted_audit:Planted"
    small = ["--views-per-subject", "2", "--executor", "inline"]
    stripes = ["--renderer", "tests.renderers:Stripes"]
    used = ["--set", f"audits.use=['{planted}']"]
    made = run("generate", "--prompts", captions, "--out", out, *small, *stripes, *used)
    assert made.exit_code == 0, made.output
    (tmp_path / "was_run").unlink()
    del sys.modules["planted_audit"]
    trust = ["--trust", "tests.renderers:Stripes"]
    for arguments in (["show", out, "000000000_000", "--render"], ["generate", "--out", out]):
        result = run(*arguments, *trust)
        assert result.exit_code == 1
        assert f"give --trust {planted}" in result.output
        assert not (tmp_path / "was_run").exists()
        assert run(*arguments, *trust, "--trust", planted).exit_code == 0
        (tmp_path / "was_run").unlink(missing_ok=True)
        sys.modules.pop("planted_audit", None)


def test_settings_of_a_set_name_no_code(
    captions: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hash covers the settings of a recipe, so whoever holds a set can change them."""
    (tmp_path / "slipped.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'was_run')!r}).touch()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert generate(captions, out).exit_code == 0
    recipe = json.loads((out / "recipe.json").read_text())
    recipe["settings"]["audits"] = [{"name": "slipped:Audit"}]
    (out / "recipe.json").write_text(json.dumps(recipe))
    run("show", out, "000000000_000", "--render")
    run("generate", "--out", out)
    assert not (tmp_path / "was_run").exists()


def test_trust_is_for_a_set_alone(captions: Path, out: Path) -> None:
    result = generate(captions, out, "--trust", "tests.renderers:Stripes")
    assert result.exit_code == 2
    assert "--trust is for a set" in result.output


def test_verify_can_demand_a_seal(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    assert run("verify", out, "--sealed").exit_code == 0
    (out / "dataset.json").unlink()
    assert run("verify", out).exit_code == 0
    result = run("verify", out, "--sealed")
    assert result.exit_code == 1
    assert "not sealed yet" in result.output


def test_garbage_is_listed_and_removed_only_when_asked(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    (out / "dataset.json").unlink()
    (out / "manifests/000000.parquet").unlink()
    tar = out / "data/000000.tar"
    tar.write_bytes(tar.read_bytes()[:2048])
    refused(generate(captions, out), tar, "`synth gc", "--yes` removes it")
    assert "data/000000.tar" in run("gc", out).output
    assert tar.exists()
    assert run("gc", out, "--yes").exit_code == 0
    assert not tar.exists()
    assert generate(captions, out).exit_code == 0
    assert run("verify", out, "--sealed").exit_code == 0


def test_verify_names_the_place_of_a_fault(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    tar = out / "data" / "000000.tar"
    tar.write_bytes(tar.read_bytes()[:2048])
    result = run("verify", out)
    assert result.exit_code == 1
    assert "data/000000.tar: 2048 bytes with hash" in result.output


def test_newer_set_is_refused(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    text = (out / "recipe.json").read_text().replace('"2.0"', '"3.0"')
    (out / "recipe.json").write_text(text)
    refused(run("verify", out), "written as format 3.0", "install a newer synth-rep")


def test_full_disk_is_one_line_and_the_same_command_resumes(captions: Path, tmp_path: Path) -> None:
    """On a file system that is really full, where the user who runs the test may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", disk], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        many = ("--views-per-subject", "40", "--batch-size", "40")
        refused(generate(captions, disk / "set", *many), "free some space and run the same command")
        assert not list((disk / "set").glob("data/*.tar"))
        assert not [*disk.rglob(".tmp-*")]
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        assert generate(captions, disk / "set", *many).exit_code == 0
        assert run("verify", disk / "set").exit_code == 0
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_module_in_the_working_directory_is_not_imported(captions: Path, out: Path) -> None:
    """Such a file may have come with a set, and `python -m` would find it before any library."""
    (captions.parent / "planted.py").write_text("raise SystemExit('planted code ran')\n")
    options = ["--prompts", captions, "--out", out, "--renderer", "planted:Renderer"]
    done = subprocess.run(
        command("generate", *options),
        cwd=captions.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "planted code ran" not in done.stdout + done.stderr
    assert "renderer planted:Renderer" in done.stderr


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", '"\\ud800"'])
@pytest.mark.parametrize("table", ["environment", "settings", "subject_files"])
def test_what_is_no_json_in_a_recipe(value: str, table: str, captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    recipe = (out / "recipe.json").read_text()
    (out / "recipe.json").write_text(
        recipe.replace(f'"{table}": {{', f'"{table}": {{"x": {value},')
    )
    for arguments in (["status", out], ["verify", out], ["report", out, "--out", out / "r.html"]):
        refused(run(*arguments), "recipe.json: not JSON")


def test_threads_that_no_machine_has(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    recipe = json.loads((out / "recipe.json").read_text())
    for value in (0, -1, 1.5, True, "2", None):
        recipe["settings"]["resources"]["threads"] = value
        (out / "recipe.json").write_text(json.dumps(recipe))
        refused(run("generate", "--out", out), "does not hold the settings of a renderer")


def test_a_dead_link_in_the_place_of_the_seal(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    (out / "dataset.json").unlink()
    (out / "dataset.json").symlink_to("nowhere")
    refused(run("generate", "--out", out), "dataset.json", "a dead link")


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_statistics_that_cannot_be_read_are_left_out(
    kind: str, captions: Path, out: Path, tmp_path: Path
) -> None:
    assert generate(captions, out).exit_code == 0
    stats = out / "stats/000000.json"
    stats.unlink()
    os.mkfifo(stats) if kind == "pipe" else stats.mkdir()
    assert run("status", out).exit_code == 0
    assert run("report", out, "--out", tmp_path / "r.html").exit_code == 0


def test_a_small_set_is_counted_in_plain_english(captions: Path, out: Path, tmp_path: Path) -> None:
    assert generate(captions, out).exit_code == 0
    assert "views/s on 1 host " in run("status", out).output
    assert run("report", out, "--out", tmp_path / "r.html").output.endswith(" kB\n")


def test_a_demo_writes_into_no_folder_of_something_else(captions: Path, out: Path) -> None:
    assert generate(captions, out).exit_code == 0
    before = sorted(out.rglob("*"))
    refused(run("demo", "--out", out), out, "holds README.md and is no demo", "give a new or an")
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--out", "/dev/null"],
        ["demo", "--out", "/proc/x"],
        ["pictograms", "--out", "/proc/x"],
        ["pictograms", "--out", "x" * 300],
        ["generate", "--out", "/proc/x"],
    ],
)
def test_a_place_where_nothing_can_be_made(
    arguments: list[str], captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "generate":
        arguments = [*arguments, "--prompts", str(captions), "--executor", "inline"]
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.output
