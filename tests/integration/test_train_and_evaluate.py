"""From a set to scores in separate commands, for each objective; zero-shot for those with text."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.picture_sets import make_picture_set, png
from tests.running import synth

pytestmark = pytest.mark.slow

TEXT = "{context_length=8,width=16,heads=2,layers=1,embed_dim=8}"


def labelled(folder: Path) -> str:
    """Noise around two colours, told by name."""
    for split, count in (("train", 24), ("test", 10)):
        (folder / split).mkdir(parents=True)
        with tarfile.open(folder / split / "0.tar", "w") as tar:
            for index in range(count):
                rng = np.random.default_rng([len(split), index])
                pixels = rng.integers(0, 60, (16, 16, 3))
                pixels[..., index % 2] += 180
                members = {"png": png(pixels.astype(np.uint8)), "cls": str(index % 2).encode()}
                for suffix, data in members.items():
                    info = tarfile.TarInfo(f"{index:03d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    (folder / "classnames.txt").write_text("red\ngreen\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a {c}\nsome {c}\n")
    return f"wds:{folder}"


@pytest.mark.parametrize("objective", ["stablerep-plus", "clip"])
def test_text_objectives_are_scored_zero_shot_too(objective: str, tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    run = tmp_path / "run"
    head = ("--set", "objective.head_hidden=8", "--set", "objective.head_out=4")
    synth(
        "train", tmp_path / "set", "--out", run, "--objective", objective, "--steps", 3,
        "--model", "synth_small_conv", "--set", "model.input_px=16", "--batch-groups", 6,
        "--views-per-group", 2, "--set", f"objective.text={TEXT}",
        *(head if objective == "stablerep-plus" else ()),
    )  # fmt: skip
    on = labelled(tmp_path / "labelled")
    output = synth("evaluate", run, "--on", on, "--with", "knn,linear,zero-shot")
    assert all(name in output for name in ("knn", "linear", "zero-shot"))
    (file,) = (run / "scores").iterdir()
    document = json.loads(file.read_text())
    scores = {score["name"]: score for score in document["scores"]}
    assert scores["knn"]["value"] == 1.0
    assert scores["linear"]["value"] == 1.0
    assert all(
        0 <= score["low"] <= score["value"] <= score["high"] <= 1 for score in scores.values()
    )
    assert {score["num_test"] for score in scores.values()} == {10}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"image_to_text", "text_to_image", "scale"} <= lines[-1].keys()


def test_encoder_without_text_is_refused_zero_shot(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    run = tmp_path / "run"
    synth(
        "train", tmp_path / "set", "--out", run, "--steps", 2, "--batch-groups", 6,
        "--model", "synth_small_conv", "--set", "model.input_px=16",
        "--set", "objective.head_hidden=8", "--set", "objective.head_out=4",
    )  # fmt: skip
    on = labelled(tmp_path / "labelled")
    output = synth("evaluate", run, "--on", on, "--with", "zero-shot", status=1)
    assert "text" in output
    assert not (run / "scores").exists()


def test_dry_run_says_what_a_step_takes_and_writes_nothing(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    output = synth(
        "train", tmp_path / "set", "--out", tmp_path / "run", "--epochs", 2, "--batch-groups", 4,
        "--model", "vit_base_patch16_224", "--nproc", 2, "--dry-run",
    )  # fmt: skip
    assert "vit_base_patch16_224, 85.8 million parameters" in output
    assert "8 images, 4 on each of 2 ranks" in output
    assert "multiply-adds a rank, in " in output
    assert "GiB a rank at the peak of a step" in output
    assert not (tmp_path / "run").exists()
