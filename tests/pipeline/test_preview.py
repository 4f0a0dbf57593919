"""A preview shows what a set will be, before anything of it is made."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from manifests.storage.local import LocalStore
from pipeline.commands.generate import pixel_options
from pipeline.config import load_config
from pipeline.contact_sheet import SheetRow, contact_sheet
from pipeline.ingredients import Ingredients, probe, resolve
from pipeline.preview import render_preview
from synth import main
from tests.running import write_captions

PNG = b"\x89PNG\r\n"
FLAT = np.full((8, 8, 3), 120, dtype=np.uint8)


def run(*arguments: object, columns: int = 200) -> Result:
    environment = {"COLUMNS": str(columns)}
    return CliRunner(env=environment).invoke(main, [str(argument) for argument in arguments])


def preview(folder: Path, *arguments: object) -> Result:
    renderer = "tests.renderers:Faulty"
    trouble = f"renderer.trouble={folder}"
    prompts = write_captions(folder, ["ant", "bee", "cat", "dog", "eel"])
    return run(
        "preview", "--prompts", prompts, "--renderer", renderer, "--set", trouble,
        "--out", folder / "preview.png", *arguments,
    )  # fmt: skip


def test_preview_renders_some_prompts_in_every_variation(tmp_path: Path) -> None:
    result = preview(tmp_path, "--guidance", "1,3", "--subjects", 3)
    assert result.exit_code == 0, result.output
    assert "preview.png: 6 views, " in result.output
    assert "s a view on this machine" in result.output
    assert (tmp_path / "preview.png").read_bytes().startswith(PNG)
    assert sorted(os.listdir(tmp_path)) == ["captions.txt", "preview.png"]  # no set is begun


def test_preview_draws_the_noise_again_where_nothing_else_varies(tmp_path: Path) -> None:
    result = preview(tmp_path, "--guidance", "1", "--subjects", 2)
    assert "preview.png: 8 views, " in result.output


def ingredients_of(folder: Path, captions: list[str]) -> Ingredients:
    flags = {
        "prompts.file": str(write_captions(folder, captions)),
        "renderer.name": "tests.renderers:Faulty",
        "renderer.trouble": str(folder),
        "renderer.guidance": (1.0, 3.0),
        "views.per_subject": 2,
    }
    config = load_config(recipe=None, overrides=[], flags=flags)
    return probe(resolve(config, LocalStore(str(folder / "set")), origin="recipe"))


def test_views_of_a_row_share_their_noise(tmp_path: Path) -> None:
    ingredients = ingredients_of(tmp_path, ["ant", "bee"])
    shown: list[int] = []
    made = render_preview(ingredients, num_subjects=2, num_draws=2, on_views=shown.append)
    seeds = [request.seed for request in made.requests]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]
    assert [request.variation["guidance_scale"] for request in made.requests] == 4 * [1.0, 3.0]
    assert (sum(shown), len(made.tiles)) == (8, 8)


@pytest.mark.parametrize(
    ("renderer", "source", "settings"),
    [
        ("image-programs", "programs", ["--size", 16]),
        ("latent-neighbourhood", "anchors", ["--set", "renderer.sigma=[0.2,0.4]"]),
    ],
)
def test_preview_works_with_renderers_without_captions(
    tmp_path: Path, renderer: str, source: str, settings: list[object]
) -> None:
    out = tmp_path / "preview.png"
    prompts = ["--set", f"prompts.source={source}", "--set", "prompts.count=3"]
    result = run("preview", "--renderer", renderer, *prompts, *settings, "--out", out)
    assert result.exit_code == 0, result.output
    assert out.read_bytes().startswith(PNG)


@pytest.mark.slow
def test_preview_works_with_the_embedded_model(tmp_path: Path) -> None:
    out = tmp_path / "preview.png"
    prompts = ["--prompts", write_captions(tmp_path, ["a penguin"]), "--model", "embedded"]
    result = run("preview", *prompts, "--guidance", "1,3", "--steps", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert out.read_bytes().startswith(PNG)


def test_preview_shows_why_a_view_failed_beside_those_that_did_not(tmp_path: Path) -> None:
    ingredients = ingredients_of(tmp_path, ["ant", "bee", "cat"])
    (tmp_path / "blank").write_text("ant")
    (tmp_path / "raise").write_text("bee")
    made = render_preview(ingredients, num_subjects=3, num_draws=1, on_views=lambda count: None)
    tiles = [made.tiles[request.key] for request in made.requests]
    assert tiles[:2] == 2 * ["refused: blank"]
    assert all(isinstance(tile, str) and "cannot render" in tile for tile in tiles[2:4])
    assert all(isinstance(tile, np.ndarray) for tile in tiles[4:])


def test_preview_takes_the_options_of_generate_that_decide_pixels() -> None:
    names = {option.name for option in pixel_options()}
    assert {"prompts", "model", "guidance", "steps", "size", "seed", "recipe", "overrides"} <= names
    assert not names & {"out", "executor", "workers", "subjects_per_shard", "views_per_subject"}


def test_sheet_has_a_place_for_every_view_and_for_those_that_failed() -> None:
    rows = [
        SheetRow(label="a fox\x1b[31m", tiles=[FLAT, "blank"]),
        SheetRow(label="b", tiles=[FLAT]),
    ]
    picture = np.asarray(Image.open(io.BytesIO(contact_sheet(["1", "2"], rows))))
    grey = (picture == 120).all(-1).sum()
    assert grey == 2 * 144 * 144  # each pixel became a square of 18 x 18


@pytest.mark.parametrize("count", [1, 300])
def test_sheet_is_bounded_in_width(count: int) -> None:
    rows = [SheetRow(label="x" * 10_000, tiles=[FLAT] * count)]
    width, height = Image.open(io.BytesIO(contact_sheet(["h"] * count, rows))).size
    assert width < 13_000
    assert height < 400
