"""A report reads the folders of runs as files, and only those of runs that saw its set."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from manifests.errors import CorruptError, ForeignSetError
from manifests.foundation.errors import ConfigError
from pipeline.learned import MAX_POINTS, MAX_RUNS, runs_of, scores_in
from synth import main
from tests.labelled_sets import make_folder
from tests.picture_sets import make_picture_set
from tests.sets import refused


def make_run(folder: Path, root: str = "a" * 64, metrics: str = "") -> Path:
    folder.mkdir(parents=True)
    identity = {
        "set": {"root_sha256": root},
        "objective": {"name": "stablerep"},
        "schedule": {"steps": 20},
    }
    (folder / "run.json").write_text(json.dumps({"identity": identity, "sessions": []}))
    (folder / "metrics.jsonl").write_text(metrics)
    return folder


def write_scores(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    score = {"name": "knn", "metric": "top-1", "value": 0.5, "low": 0.4, "high": 0.6} | changes
    test = {"name": "wds:x/pictograms", "train_split": "train", "test_split": "test"}
    document = {"encoder": {"name": "runs/first"}, "set": test, "scores": [score]}
    path.write_text(json.dumps(document))
    return path


def test_runs_of_the_set_are_found_among_others(tmp_path: Path) -> None:
    make_run(
        tmp_path / "first", metrics='{"step": 1, "loss": 3.5}\n{"step": 2, "loss": null}\n{"st'
    )
    make_run(tmp_path / "other", root="b" * 64)
    ((folder, run),) = runs_of([tmp_path], root_sha256="a" * 64)
    assert folder == tmp_path / "first"
    assert (run.name, run.objective, run.steps) == ("first", "stablerep", 20)
    assert run.losses == [(1.0, 3.5)]


def test_more_runs_than_a_page_shows_are_refused_and_not_dropped(tmp_path: Path) -> None:
    for number in range(MAX_RUNS + 1):
        make_run(tmp_path / f"run-{number}")
    with refused(ConfigError, "--run", f"{MAX_RUNS + 1} runs", "name those"):
        runs_of([tmp_path], root_sha256="a" * 64)


def test_a_run_of_another_set_is_refused_where_it_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with refused(ForeignSetError, "--run", "learned from another set", "bbbbbbbbbbbbbbbb"):
        runs_of([run], root_sha256="b" * 64)
    with refused(ForeignSetError, "it is not sealed"):
        runs_of([run], root_sha256=None)
    with refused(ForeignSetError, "no run of `synth train` here"):
        runs_of([tmp_path / "nowhere"], root_sha256="a" * 64)


def test_a_long_curve_is_drawn_by_means(tmp_path: Path) -> None:
    lines = "".join(f'{{"step": {n}, "loss": {n % 2}}}\n' for n in range(10 * MAX_POINTS))
    ((_, run),) = runs_of([make_run(tmp_path / "run", metrics=lines)], root_sha256="a" * 64)
    assert len(run.losses) == MAX_POINTS
    assert {loss for _, loss in run.losses} == {0.5}


def test_scores_while_a_run_learned_are_a_curve_beside_the_loss(tmp_path: Path) -> None:
    """The first one stands before the first loss, and one that could not be made is null."""
    run = make_run(
        tmp_path / "run",
        metrics='{"step": 0, "knn": 0.1}\n{"step": 1, "loss": 3.5}\n{"step": 2, "knn": null}\n'
        '{"step": 3, "loss": 3.0, "knn": 0.3}\n',
    )
    document = json.loads((run / "run.json").read_text())
    knn = {"set": "imagefolder:cars", "split": "val", "metric": "top-1"}
    (run / "run.json").write_text(json.dumps(document | {"sessions": [{}, {"knn": knn}]}))
    ((_, learned),) = runs_of([run], root_sha256="a" * 64)
    assert learned.losses == [(1.0, 3.5), (3.0, 3.0)]
    assert learned.scores == [(0.0, 0.1), (3.0, 0.3)]
    assert learned.scored_on == "top-1 on imagefolder:cars, val"


@pytest.mark.parametrize("sessions", [None, [], ["x"], [{"knn": 1}], [{}]])
def test_a_run_that_does_not_say_what_it_was_scored_on_is_read(
    tmp_path: Path, sessions: Any
) -> None:
    run = make_run(tmp_path / "run", metrics='{"step": 0, "knn": 0.1}\n')
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(document | {"sessions": sessions}))
    ((_, learned),) = runs_of([run], root_sha256="a" * 64)
    assert learned.scored_on == ""


@pytest.mark.parametrize("metrics", ["no json\n", "[" * 100_000 + "\n"])
def test_a_damaged_curve_is_named(tmp_path: Path, metrics: str) -> None:
    run = make_run(tmp_path / "run", metrics=metrics)
    with refused(CorruptError, "metrics.jsonl", "not JSON"):
        runs_of([run], root_sha256="a" * 64)


def test_scores_are_read_from_files_and_folders(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores" / "first.json")
    (score,) = scores_in([tmp_path])
    assert [score] == scores_in([path])
    assert (score.encoder, score.test) == ("first", "pictograms, train to test, knn, top-1")
    assert (score.value, score.low, score.high) == (0.5, 0.4, 0.6)


@pytest.mark.parametrize("value", [None, "x", [1]])
def test_a_file_that_holds_no_scores_is_named(tmp_path: Path, value: Any) -> None:
    path = write_scores(tmp_path / "first.json", value=value)
    with refused(CorruptError, "first.json", "not a file of scores"):
        scores_in([path])


@pytest.mark.slow
def test_scores_that_synth_evaluate_writes_are_read(tmp_path: Path) -> None:
    make_folder(tmp_path / "photos", train={"a": 3, "b": 3}, test={"a": 2, "b": 2})
    out = tmp_path / "scores.json"
    on = ["--on", f"imagefolder:{tmp_path / 'photos'}", "--with", "knn", "--out", str(out)]
    result = CliRunner().invoke(main, ["evaluate", "pixels:8", *on, "--set", "knn.neighbours=2"])
    assert result.exit_code == 0, result.output
    (written,) = json.loads(out.read_text())["scores"]
    (score,) = scores_in([out])
    assert (score.encoder, score.test) == ("pixels:8", "photos, train to test, knn, top-1")
    assert (score.value, score.low) == (written["value"], written["low"])


def test_a_damaged_schedule_of_a_run_is_no_traceback(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    document = json.loads((folder / "run.json").read_text())
    document["identity"]["schedule"] = {"steps": None}
    (folder / "run.json").write_text(json.dumps(document))
    ((_, run),) = runs_of([folder], root_sha256="a" * 64)
    assert run.steps == 0


def test_a_run_that_synth_train_scored_is_drawn_beside_its_loss(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    on = make_folder(tmp_path / "cars", train={"a": 12, "b": 12}, val={"a": 2, "b": 3})
    flags = ["--objective", "simclr", "--model", "synth_small_conv", "--steps", "3"]
    flags += ["--batch-groups", "4"]
    keys = ["model.input_px=16", "objective.head_hidden=8", "run.log_every=1"]
    for name, scored in (("scored", [f"run.knn_on={on}", "run.keep_every=2"]), ("plain", [])):
        changes = [part for key in keys + scored for part in ("--set", key)]
        out = ["--out", str(tmp_path / "runs" / name)]
        result = CliRunner().invoke(main, ["train", str(tmp_path / "set"), *out, *flags, *changes])
        assert result.exit_code == 0, result.output
    page = tmp_path / "report.html"
    report = ["report", str(tmp_path / "set"), "--run", str(tmp_path / "runs"), "--out", str(page)]
    result = CliRunner().invoke(main, report)
    assert result.exit_code == 0, result.output
    html = page.read_text()
    assert html.count('aria-label="loss by step"') == 2
    assert html.count('aria-label="k-NN by step"') == 1
    assert "k-NN: top-1 on imagefolder:cars, val" in html
    assert re.search(r"<title>step 2: [0-9.]+ %</title>", html)
