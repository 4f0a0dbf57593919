"""`synth evaluate --suite`: many encoders and sets, one table, and nothing computed twice."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing as mp
from click.testing import CliRunner, Result

from synth import main
from tests.labelled_sets import make_tars
from trainer.features import extract, fingerprint
from trainer.labelled_sets import open_labelled
from trainer.testing.evaluations import ENCODER

pytestmark = pytest.mark.slow

SUITE = """
encoders = ["pixels:8", "pixels:4"]
evaluations = ["knn"]
[[sets]]
on = "wds:first"
[[sets]]
on = "wds:second"
name = "other"
evaluations = ["knn", "zero-shot"]
[settings.knn]
neighbours = 2
"""
LABELS = [[0, 1, 0, 1]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite of two encoders on two sets, beside which the sets lie."""
    make_tars(tmp_path / "first", train=LABELS, test=LABELS)
    make_tars(tmp_path / "second", train=LABELS, val=LABELS)
    (tmp_path / "suite.toml").write_text(SUITE)
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    suite = str(folder / "suite.toml")
    return CliRunner().invoke(main, ["evaluate", "--suite", suite, "--device", "cpu", *arguments])


def report(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "scores/suite.json").read_text())
    return document


def test_every_encoder_is_scored_on_every_set(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0, result.output
    cells = report(folder)["cells"]
    assert [(cell["encoder"], cell["set"]) for cell in cells] == [
        ("pixels:8", "first"),
        ("pixels:8", "other"),
        ("pixels:4", "first"),
        ("pixels:4", "other"),
    ]
    for cell in cells:
        assert [score["name"] for score in cell["scores"]["scores"]] == ["knn"]
        assert cell["scores"]["scores"][0]["settings"]["neighbours"] == 2
        own = json.loads((folder / "scores" / cell["set"]).joinpath(
            f"{cell['encoder'].replace(':', '-')}.json"
        ).read_text())  # fmt: skip
        assert own == cell["scores"]
    assert list(cells[1]["left_out"]) == ["zero-shot"]
    assert "other: zero-shot left out: zero-shot: pixels:8 was not trained with text" in (
        result.output
    )
    for word in ("first", "other", "mean", "pixels:8", "pixels:4"):
        assert word in result.output
    has_plot = (folder / "scores/suite.png").exists()
    assert has_plot == (find_spec("matplotlib") is not None)
    assert has_plot != ("pip install 'synth-rep[benchmarks]'" in result.output)


@pytest.mark.parametrize("columns", ["30", "80"])
def test_names_and_scores_of_a_suite_are_whole_at_any_width(
    columns: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = " ".join(run(folder).output.split())
    (score,) = report(folder)["cells"][2]["scores"]["scores"]
    value = f"{100 * score['value']:.1f}"
    is_narrow = columns == "30"
    assert ("│ knn │ pixels:4 │" in text) is not is_narrow
    assert (f"knn, pixels:4: first top-1 {value} " in text) is is_narrow


def test_only_what_changed_is_computed_again(folder: Path) -> None:
    def computed() -> list[str]:
        """Cells whose file was written by this run."""
        files = sorted((folder / "scores").glob("*/*.json"))
        before = {path: path.stat().st_mtime_ns for path in files}
        assert run(folder).exit_code == 0
        files = sorted((folder / "scores").glob("*/*.json"))
        return [
            f"{path.parent.name}/{path.stem}"
            for path in files
            if before.get(path) != path.stat().st_mtime_ns
        ]

    everything = ["first/pixels-4", "first/pixels-8", "other/pixels-4", "other/pixels-8"]
    assert computed() == everything
    first = report(folder)
    assert computed() == []
    assert report(folder) == first
    # Another encoder, another setting, other images, other names of classes, in this order.
    (folder / "suite.toml").write_text(SUITE.replace('"pixels:4"]', '"pixels:4", "pixels:2"]'))
    assert computed() == ["first/pixels-2", "other/pixels-2"]
    (folder / "suite.toml").write_text(SUITE.replace("neighbours = 2", "neighbours = 3"))
    assert computed() == everything
    text = (folder / "suite.toml").read_text()
    for line in ('features = "float16"', 'precision = "bf16"'):
        text = f"{line}\n{text}"
        (folder / "suite.toml").write_text(text)
        assert computed() == everything
    make_tars(folder / "first", test=[[1, 1, 0, 1]])
    assert computed() == everything[:2]
    (folder / "second/classnames.txt").write_text("night\nday\n")
    assert computed() == everything[2:]
    path = folder / "scores/first/pixels-4.json"
    document = json.loads(path.read_text())
    document["encoder"]["input_px"] = 5
    path.write_text(json.dumps(document))
    assert computed() == ["first/pixels-4"]


def test_what_fails_is_named_and_costs_nothing_else(folder: Path) -> None:
    text = SUITE.replace('"pixels:4"]', '"runs/none", "pixels:4"]')
    text += '\n[[sets]]\non = "wds:nowhere"\n'
    (folder / "suite.toml").write_text(text)
    result = run(folder)
    assert result.exit_code == 3, result.output
    cells = report(folder)["cells"]
    assert len(cells) == 9
    failed = {(cell["encoder"], cell["set"]) for cell in cells if cell["failure"]}
    assert failed == {
        *(("runs/none", name) for name in ("first", "other", "nowhere")),
        *((name, "nowhere") for name in ("pixels:8", "pixels:4")),
    }
    assert all((cell["scores"] is None) == bool(cell["failure"]) for cell in cells)
    lines = [line for line in result.output.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 5
    assert lines[0].startswith("failed: pixels:8 on nowhere: ")
    assert "Traceback" not in result.output


def test_a_file_of_other_scores_fails_its_own_cell(folder: Path) -> None:
    (folder / "scores/first").mkdir(parents=True)
    (folder / "scores/first/pixels-8.json").write_text("[]")
    result = run(folder)
    assert result.exit_code == 3
    assert "failed: pixels:8 on first: scores/first/pixels-8.json: not a file" in result.output
    assert [bool(cell["failure"]) for cell in report(folder)["cells"]] == [True] + [False] * 3


def _rank(number: int, folder: str) -> None:
    ranks = {"RANK": number, "WORLD_SIZE": 2, "SYNTH_STORE": f"{folder}/store"}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    result = run(Path(folder))
    Path(f"{folder}/{number}.txt").write_text(f"{result.exit_code}\n{result.stdout}")


def test_two_ranks_agree_on_what_is_kept_and_what_fails(folder: Path) -> None:
    assert run(folder).exit_code == 0
    alone = report(folder)["cells"]
    (folder / "scores/first/pixels-4.json").unlink()
    (folder / "scores/other/pixels-8.json").write_text("[]")
    mp.spawn(_rank, args=(str(folder),), nprocs=2)
    assert (folder / "0.txt").read_text().startswith("3\n")
    assert (folder / "1.txt").read_text() == "0\n"
    together = report(folder)["cells"]
    assert "not a file of scores" in together[1]["failure"]
    assert [*together[:1], *together[2:]] == [*alone[:1], *alone[2:]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("encoders = []", "encoders"),
        (SUITE.replace("evaluations", "evaluation", 1), "unknown key evaluation; did you mean"),
        (SUITE.replace("neighbours", "neighbour"), "unknown key"),
        (SUITE.replace("[settings.knn]", "[settings.kn]"), "--set kn: not an evaluation"),
        (SUITE.replace('name = "other"', 'name = "first"'), "two sets are named first"),
        (SUITE.replace('"pixels:4"', '"pixels:8"'), "of both pixels:8 and pixels:8"),
        ("encoders = [", "not a TOML file"),
    ],
)
def test_a_wrong_suite_is_refused_before_anything_is_computed(
    text: str, words: str, folder: Path
) -> None:
    (folder / "suite.toml").write_text(text)
    result = run(folder)
    assert result.exit_code == 1, result.output
    assert words in result.output
    assert len(result.output.splitlines()) == 1
    assert not (folder / "scores").exists()


def test_a_suite_stands_alone(folder: Path) -> None:
    for arguments in (["pixels:8"], ["--on", "wds:x"], ["--with", "knn"], ["--set", "knn.x=1"]):
        result = run(folder, *arguments)
        assert result.exit_code == 2
        assert "and --suite: the file says what is evaluated" in result.output
    assert run(folder / "none").exit_code == 1
    assert CliRunner().invoke(main, ["evaluate"]).exit_code == 2


def test_fingerprint_without_an_encoder_is_that_of_features(folder: Path) -> None:
    split = open_labelled(f"wds:{folder}/first").split("test")
    assert fingerprint(split) == extract(split, ENCODER, batch_size=4).fingerprint()


def test_each_set_has_its_own_metric_and_crop(folder: Path) -> None:
    text = SUITE.replace('name = "other"', 'name = "other"\nmetric = "mean-per-class"')
    (folder / "suite.toml").write_text(
        text.replace('on = "wds:first"', 'on = "wds:first"\ncrop = {fraction = 0.5}')
    )
    result = run(folder)
    assert result.exit_code == 0, result.output
    for word in ("top-1", "mean-per-class"):
        assert word in result.output
    cells = report(folder)["cells"]
    metrics = [cell["scores"]["scores"][0]["metric"] for cell in cells]
    assert metrics == ["top-1", "mean-per-class"] * 2
    assert cells[0]["scores"]["encoder"]["crop"] == {"fraction": 0.5}
    assert "crop" not in cells[1]["scores"]["encoder"]
    before = {path: path.stat().st_mtime_ns for path in (folder / "scores").glob("*/*.json")}
    (folder / "suite.toml").write_text(
        SUITE.replace('on = "wds:first"', 'on = "wds:first"\ncrop = {fraction = 0.5}')
    )
    assert run(folder).exit_code == 0
    after = {path: path.stat().st_mtime_ns for path in (folder / "scores").glob("*/*.json")}
    changed = {path.parent.name for path in after if after[path] != before[path]}
    assert changed == {"other"}  # it is measured by top-1 again
    (folder / "suite.toml").write_text(
        SUITE.replace('name = "other"', 'name = "other"\nmetric = "map-11"')
    )
    result = run(folder)
    assert result.exit_code == 3
    assert "which is measured by top-1 or mean-per-class, not by map-11" in result.output
