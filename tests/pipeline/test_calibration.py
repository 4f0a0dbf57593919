"""What a set will take, and `synth plan`."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import synth
from manifests.storage import open_store
from pipeline.calibration import REQUESTS_PER_SHARD, Calibration, Estimate, Rate, calibrate
from pipeline.config import load_config
from pipeline.errors import ModelError
from pipeline.ingredients import probe, resolve
from tests.running import write_captions
from tests.sets import identity_of, refused, scales, subject_rows

IDENTITY = identity_of(
    subject_rows(*[f"thing {index}" for index in range(100)]),
    views_per_subject=6,
    variations=scales(1.0, 3.0),
    subjects_per_shard=10,
)
CALIBRATION = Calibration(
    rates=[
        Rate(variation=0, render_s=1.0, num_views=8),
        Rate(variation=1, render_s=2.0, num_views=8),
    ],
    encode_s=0.1,
    view_bytes=50_000.0,
    load_s=30.0,
)


def estimate(workers: int = 4) -> Estimate:
    return Estimate(identity=IDENTITY, calibration=CALIBRATION, workers=workers)


def test_an_estimate_is_arithmetic() -> None:
    assert CALIBRATION.view_s == 1.5
    assert replace(CALIBRATION, encode_s=4.0).view_s == 4.0
    assert estimate().shard_s == 60 * 1.5
    # Ten shards on four workers are three rounds.
    assert estimate().hours == pytest.approx((3 * 90 + 30) / 3600)
    assert estimate().worker_hours == pytest.approx((600 * 1.5 + 4 * 30) / 3600)
    assert estimate(50).worker_hours == pytest.approx((600 * 1.5 + 10 * 30) / 3600)
    assert estimate().tar_bytes == 600 * 50_000
    assert estimate().requests == 10 * REQUESTS_PER_SHARD
    large = replace(estimate(), calibration=replace(CALIBRATION, view_bytes=1e6))
    # A tar of 60 MB goes in four parts of 16 MiB.
    assert large.requests == 10 * (REQUESTS_PER_SHARD + 4 + 2)


@given(hours=st.floats(0.001, 1.0), workers=st.integers(1, 20))
def test_advice_meets_the_deadline(hours: float, workers: int) -> None:
    least = estimate(workers).workers_for(hours)
    if least is None:
        assert estimate(IDENTITY.num_shards).hours > hours
    else:
        assert estimate(least).hours <= hours
        assert least == 1 or estimate(least - 1).hours > hours
    views = estimate(workers).views_for(hours)
    assert views % 2 == 0
    if 0 < views < IDENTITY.views_per_subject:
        fewer = replace(IDENTITY, views_per_subject=views)
        # The load of the model does not shrink with the views.
        assert replace(estimate(workers), identity=fewer).hours <= hours + CALIBRATION.load_s / 3600


def test_every_variation_is_measured(tmp_path: Path) -> None:
    flags = {
        "prompts.file": str(write_captions(tmp_path)),
        "renderer.name": "tests.renderers:Faulty",
        "renderer.guidance": [1.0, 2.0, 3.0],
        "views.per_subject": 6,
    }
    config = load_config(recipe=None, overrides=[], flags=flags)
    ingredients = probe(resolve(config, open_store(str(tmp_path / "set")), origin="test"))
    measured = calibrate(ingredients, seconds=0)
    assert [rate.variation for rate in measured.rates] == [0, 1, 2]
    assert all(rate.render_s > 0 for rate in measured.rates)
    assert measured.view_bytes > 2300
    (tmp_path / "trouble").mkdir()
    (tmp_path / "trouble" / "raise").write_text(Path(flags["prompts.file"]).read_text())
    flags["renderer.trouble"] = str(tmp_path / "trouble")
    config = load_config(recipe=None, overrides=[], flags=flags)
    ingredients = probe(resolve(config, open_store(str(tmp_path / "set")), origin="test"))
    with refused(ModelError, "batches cannot be rendered", "cannot render 'a "):
        calibrate(ingredients, seconds=0)


def plan(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(synth.main, ["plan", *map(str, arguments)])
    return result.exit_code, " ".join(result.output.split())


def test_the_command_says_what_a_set_takes_and_what_meets_a_deadline(tmp_path: Path) -> None:
    captions = write_captions(tmp_path, [f"thing {index}" for index in range(50)])
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[prompts]\nfile = "{captions}"\n[renderer]\nname = "benchmarks.noise:Noise"\n'
        "view_s = 0.02\n[views]\nper_subject = 4\n[shards]\nsubjects = 5\n"
    )
    status, output = plan(recipe, "--seconds", 0, "--workers", 3)
    assert status == 0, output
    assert "200: 50 subjects x 4" in output
    assert f"{10 * REQUESTS_PER_SHARD} to a bucket" in output
    assert "bound by rendering" in output
    assert not (tmp_path / "set").exists()
    status, output = plan(recipe, "--seconds", 0, "--workers", 1, "--deadline", 0.0009)
    # A view takes 20 ms at least, so 200 of them take 4 s or more of one worker.
    assert re.search(r"deadline of 3 seconds: missed; .* would meet it", output)
    assert plan(recipe, "--seconds", 0, "--deadline", 5)[1].endswith("hours: met")
    assert "40 workers for 10 shards" in plan(recipe, "--seconds", 0, "--workers", 40)[1]


def test_flags_of_generate_say_what_is_planned(tmp_path: Path) -> None:
    captions = write_captions(tmp_path, [f"thing {index}" for index in range(50)])
    status, output = plan(
        "--prompts", captions, "--renderer", "tests.renderers:Faulty", "--guidance", "1,3",
        "--views-per-subject", 4, "--subjects-per-shard", 5, "--seconds", 0,
    )  # fmt: skip
    assert status == 0, output
    assert "200: 50 subjects x 4" in output
    assert "guidance scale 3" in output
    assert "10, each" in output


def test_a_recipe_that_cannot_be_planned(tmp_path: Path) -> None:
    assert plan() == (
        1,
        "Error: recipe: prompts.file is not given; give it in the recipe or with --set "
        "prompts.file=...",
    )
    status, output = plan(tmp_path / "none.toml")
    assert status == 1
    assert "none.toml" in output
    assert plan(tmp_path / "none.toml", "--deadline", 0)[0] == 2
