"""Commands print stored text as it is, without codes that a terminal would obey.

The files that they write are whole or not there.
"""

import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from manifests.shard_set import ShardSet
from pipeline.commands.demo import show_scores
from synth import main
from tests.sets import begin, commit, make_set

CAPTIONS = (
    "a fox [/red] and a hen",
    "[bold]two[/bold] [link=https://host]pears[/link] :smile:",
    "a \x1b[31mred\x1b]0;title\x07 \u202edoor\x9b",
)
"""Markup of rich that is wrong; markup that is right, with an emoji code; and control characters
that would colour the text, rename the window and reverse the direction of writing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_set(tmp_path / "set", captions=CAPTIONS)
    shutil.rmtree(tmp_path / "set/stats")  # made without a renderer, so no report could use them
    return tmp_path / "set"


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, [str(argument) for argument in arguments])


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond this size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("group", "shown"),
    [
        (0, CAPTIONS[0]),
        (1, CAPTIONS[1]),
        (2, r"a \x1b[31mred\x1b]0;title\x07 \u202edoor\x9b"),
    ],
)
def test_show_prints_a_caption_as_it_is_stored(folder: Path, group: int, shown: str) -> None:
    result = run("show", folder, f"{group:09d}_000")
    assert result.exit_code == 0, result.output
    assert shown in result.output
    assert "\x1b" not in result.output


def test_status_prints_errors_and_folders_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "[red]set"
    shards = begin(folder)
    commit(shards, 1)
    error = r'"errors": ["out of [/memory] \u001b[31m :smile:\n at line 3 \ud800"]'
    shards.store.create("failed/000000-000.json", f'{{"shard": 0, {error}}}'.encode())
    result = run("status", folder)
    assert result.exit_code == 0, result.output
    assert r"shard 0: out of [/memory] \x1b[31m :smile:\n at line 3 \ud800" in result.output
    assert "[red]set" in "".join(result.output.split())  # the title may be wrapped


def test_verify_prints_names_of_files_without_control_characters(folder: Path) -> None:
    (folder / "data/\x1b[31m.tar").write_bytes(b"")
    result = run("verify", folder)
    assert result.exit_code == 1
    assert r"data/\x1b[31m.tar: " in result.output
    assert "\x1b" not in result.output


def test_an_error_line_holds_no_control_characters(tmp_path: Path) -> None:
    for options in ([], ["--debug"]):
        result = run(*options, "verify", tmp_path / "\x1b[31mset")
        assert result.exit_code == 1
        assert r"\x1b[31mset" in result.output
        assert "\x1b" not in result.output


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("command", ["report", "show"])
def test_a_full_disk_leaves_no_cut_file(folder: Path, command: str, old: bytes | None) -> None:
    out = folder.parent / "out" / "file"
    out.parent.mkdir()
    if old is not None:
        out.write_bytes(old)
    arguments: list[object] = ["report", folder, "--out", out]
    if command == "show":
        arguments = ["show", folder, "000000000_000", "--save", out]
    with files_of_at_most(10):
        result = run(*arguments)
    option = "--out" if command == "report" else "--save"
    assert result.exit_code == 1
    assert f"Error: {option} {out}: cannot be written (File too large)" in result.output
    assert [path.read_bytes() for path in out.parent.iterdir()] == ([] if old is None else [old])
    assert run(*arguments).exit_code == 0
    assert len(out.read_bytes()) > 10


def test_a_report_of_an_error_that_is_no_text_is_written(tmp_path: Path) -> None:
    shards = begin(tmp_path / "set")
    commit(shards, 1)
    shards.store.create("failed/000000-000.json", rb'{"shard": 0, "errors": ["half \ud800"]}')
    result = run("report", tmp_path / "set", "--out", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    assert r"half \ud800" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("command", ["report", "show"])
def test_a_url_or_a_folder_is_no_output_file(
    folder: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for out, words in (("s3://bucket/x", "is a URL"), (str(folder), "Is a directory")):
        arguments = ["report", folder, "--out", out]
        if command == "show":
            arguments = ["show", folder, "000000000_000", "--save", out]
        result = run(*arguments)
        assert result.exit_code == 1
        assert words in result.output
        assert "Traceback" not in result.output
    assert os.listdir(folder.parent) == ["set"]


def test_pictures_may_be_wider_than_high(tmp_path: Path) -> None:
    """From the flag to the stored bytes, which `verify` compares with their rows."""
    captions = tmp_path / "captions.txt"
    captions.write_text("a penguin\n")
    options = ["--prompts", captions, "--out", tmp_path / "set", "--executor", "inline"]
    options += ["--size", "96x64", "--store-size", 32, "--steps", 1, "--views-per-subject", 2]
    assert run("generate", *options).exit_code == 0
    assert run("verify", tmp_path / "set").exit_code == 0
    row = ShardSet.open(str(tmp_path / "set")).manifest(0).rows[0]
    assert (row.render_width_px, row.render_height_px) == (96, 64)
    assert (row.width_px, row.height_px) == (48, 32)
    for text in ("96x64x32", "96,", "a,b"):
        wrong = run("generate", *options, "--size", text)
        assert wrong.exit_code == 2
        assert "width x height such as 640x448" in wrong.output


def test_pictures_of_several_sizes_are_made_verified_and_made_again(tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a penguin\nan owl\n")
    options = ["--prompts", captions, "--out", tmp_path / "set", "--executor", "inline"]
    options += ["--size", "32,64x48,24x40", "--store-size", 24, "--steps", 1, "--guidance", "1,3"]
    options += ["--views-per-subject", 6]
    made = run("generate", *options)
    assert made.exit_code == 0, made.output
    assert run("verify", tmp_path / "set").exit_code == 0
    shards = ShardSet.open(str(tmp_path / "set"))
    rows = shards.manifest(0).rows
    assert [(row.values["guidance_scale"], row.values["size"]) for row in rows[:6]] == [
        (scale, size) for scale in (1.0, 3.0) for size in ("32x32", "64x48", "24x40")
    ]
    stored = {(row.values["size"], row.width_px, row.height_px) for row in rows}
    assert stored == {("32x32", 24, 24), ("64x48", 32, 24), ("24x40", 24, 40)}
    card = (tmp_path / "set" / "README.md").read_text()
    assert "| size | 32x32, 64x48, 24x40 |" in card
    again = run("show", tmp_path / "set", rows[-1].key, "--render")
    assert again.exit_code == 0, again.output
    refused = run("generate", *options[:-2], "--views-per-subject", 10, "--out", tmp_path / "x")
    assert refused.exit_code == 1
    assert "6 variations do not divide 10 views" in refused.output


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("[[64,64],[61,64]]", "size 61 px: this model renders multiples of"),
        ("[[64,64],[60,64]]", "none of 1 views of 60 x 64 px that were tried can be rendered"),
        ("[[64,64],[64,64]]", "each given once"),
        ("[[64,64],48]", "several sizes are pairs"),
        ("[[64,64],[64,4]]", "a side of 4 px"),
        ("[64,64,64]", "renderer.size_px"),
        ("[[64,64],[32,16]]", "image.size_px 24: views are rendered at 16 px"),
    ],
)
def test_sizes_that_cannot_be_rendered_are_refused(tmp_path: Path, sizes: str, words: str) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a penguin\n")
    options = ["--prompts", captions, "--out", tmp_path / "set", "--executor", "inline"]
    result = run("generate", *options, "--store-size", 24, "--set", f"renderer.size_px={sizes}")
    assert result.exit_code == 1
    assert words in result.output.replace("\n", " ")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("columns", ["40", "80"])
def test_names_and_scores_of_a_demo_are_whole_at_any_width(
    columns: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    score = {"name": "knn", "value": 0.123, "low": 0.1, "high": 0.145, "top5": 0.4}
    file = tmp_path / "scores/one-shot/stablerep-plus.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"scores": [score]}))
    monkeypatch.setenv("COLUMNS", columns)
    show_scores(tmp_path, "stablerep")
    text = " ".join(capsys.readouterr().out.split())
    assert ("StableRep+: one-shot 12.3/40.0 10.0-14.5" in text) is (columns == "40")
    assert ("│ StableRep+ │" in text) is (columns == "80")
    assert "12.3/40.0" in text
    assert "SimCLR, real drawings" in text
