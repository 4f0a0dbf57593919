"""A plug-in of somebody else that breaks its protocol is named in one line."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from synth import main
from tests.labelled_sets import make_tars
from tests.picture_sets import make_picture_set

FOREIGN = "tests.trainer.foreign"


def refused(*arguments: object, words: str) -> None:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 1
    assert words in line
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (f"{FOREIGN}:NoSource:x", f"source {FOREIGN}:NoSource: its instances have no url, root"),
        ("json:JSONDecoder:x", "source json:JSONDecoder"),
    ],
)
def test_source(source: str, words: str, tmp_path: Path) -> None:
    refused("train", source, "--out", tmp_path / "run", words=words)
    assert not (tmp_path / "run").exists()


def test_objective_that_raises(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    small = ["--model", "synth_small_conv", "--set", "model.input_px=16", "--batch-groups", "4"]
    refused(
        *("train", tmp_path / "set", "--out", tmp_path / "run", *small, "--steps", "2"),
        *("--objective", f"{FOREIGN}:RaisingObjective", "--set", "run.precision=fp32"),
        words=f"objective {FOREIGN}:RaisingObjective: KeyError: 'temperature'",
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "Floats",
            "evaluation Floats: predicts tensor([[0.], [0.]]), expected whole",
        ),
        ("TooFew", "evaluation TooFew: 1 predictions for 2 test images"),
        ("NanDetails", "evaluation NanDetails: its details are {'k': nan}"),
        ("Nothing", "evaluation Nothing: predicts None"),
    ],
)
def test_evaluation(name: str, words: str, tmp_path: Path) -> None:
    on = make_tars(tmp_path / "labelled", train=[[0, 1]], test=[[0, 1]])
    refused("evaluate", "pixels:8", "--on", on, "--with", f"{FOREIGN}:{name}", words=words)


def test_encoder(tmp_path: Path) -> None:
    on = make_tars(tmp_path / "labelled", train=[[0, 1]], test=[[0, 1]])
    refused("evaluate", f"{FOREIGN}:Maps:x", "--on", on, words="expected one vector for")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NegativeLabel", "a: label -1, expected 0 or more"),
        ("TextLabel", "a: label 'cat', expected 0 or more"),
        ("NoSet", f"labelled set {FOREIGN}:NoSet: gives {{'test': []}}"),
    ],
)
def test_labelled_set(name: str, words: str) -> None:
    on = ["--on", f"{FOREIGN}:{name}:x", "--with", f"{FOREIGN}:Nothing"]
    refused("evaluate", "pixels:8", *on, words=words)
