"""`synth evaluate`: scores that say what was evaluated, and one line for what cannot be."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from click.testing import CliRunner, Result
from torch import nn

from synth import main
from tests.labelled_sets import encoded, make_folder, make_tars, png, write_tar
from trainer.models.encoder import build_encoder, num_features, save_encoder
from trainer.models.specs import EncoderSpec, TextSpec
from trainer.models.text import ImageText, save_text

pytestmark = pytest.mark.slow

QUICK = [
    *("--set", "knn.neighbours=3"),
    *("--set", "linear.epochs=5", "--set", "linear.min_steps=1", "--device", "cpu"),
]
SPEC = EncoderSpec(model="test_vit", input_px=160, crop_fraction=1.0)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def refused(result: Result, *words: str) -> None:
    """Exit status 1 and one line with every word."""
    lines = [line for line in result.output.splitlines() if line and "features of" not in line]
    assert result.exit_code == 1, result.output
    assert len(lines) == 1, result.output
    assert [word for word in words if word not in lines[0]] == [], lines[0]


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.fixture
def on(tmp_path: Path) -> str:
    """Dark and light pictures, none like another: separable by pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 20)):
        members: dict[str, bytes] = {}
        for position in range(count):
            label = position % 2
            pixels = rng.integers(0, 60, (8, 8, 3)) + np.array([150, 0, 0]) * label
            members[f"{position:03d}.png"] = encoded(pixels.astype(np.uint8), "png")
            members[f"{position:03d}.cls"] = str(label).encode()
        write_tar(tmp_path / "pictures" / split / "000000.tar", members)
    return f"wds:{tmp_path / 'pictures'}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder as a run has it."""
    folder = tmp_path_factory.mktemp("run")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_encoder(folder, build_encoder(SPEC), SPEC, {})
    return folder


def test_pixels_are_evaluated_and_written_down(on: str, tmp_path: Path) -> None:
    out = tmp_path / "scores" / "pixels.json"
    result = run("pixels:8", "--on", on, "--out", out, *QUICK)
    assert result.exit_code == 0, result.output
    assert "100.0" in result.output
    document = read(out)
    assert document["encoder"] == {"name": "pixels:8", "kind": "pixels", "input_px": 8}
    assert document["set"]["test_split"] == "test"
    assert document["set"]["num_classes"] == 2
    assert document["set"]["test"]["num_images"] == document["set"]["test"]["num_groups"] == 20
    assert document["set"]["train"]["num_images"] == 40
    assert [score["name"] for score in document["scores"]] == ["knn", "linear"]
    for score in document["scores"]:
        assert (score["value"], score["num_test"]) == (1, 20)
        assert score["low"] < 1
    assert document["scores"][0]["settings"] == {"neighbours": 3, "temperature": 0.07}
    assert document["scores"][1]["settings"]["epochs"] == 5
    assert set(document["versions"]) == {"python", "synth-rep", "torch", "timm", "pillow"}


@pytest.mark.parametrize("columns", ["40", "80"])
def test_names_and_scores_are_whole_at_any_width(
    columns: str, on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    options = ("--on", on, "--out", tmp_path / "scores", "--with", "knn", *QUICK[:2])
    result = run("pixels:8", "pixels:4", *options)
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    for name in ("pixels:8", "pixels:4"):
        line = f"knn, {name}: top-1 % 100.0, 95 % interval" if columns == "40" else f"│ {name} "
        assert line in text


def test_scores_of_a_run_are_kept_in_it_and_added_to(on: str, trained: Path) -> None:
    path = trained / "scores/pictures-test.json"
    for names in ("knn", "linear"):
        result = run(
            trained, "--on", on, "--with", names, *(QUICK[:2] if names == "knn" else QUICK[2:])
        )
        assert result.exit_code == 0, result.output
        assert str(path) in result.output.replace("\n", "")
    document = read(path)
    assert [score["name"] for score in document["scores"]] == ["knn", "linear"]
    assert document["encoder"]["kind"] == "trained"
    assert len(document["encoder"]["sha256"]) == 64
    assert document["encoder"]["spec"]["model"] == "test_vit"
    first = document["scores"][0]["value"]

    file = run(trained / "encoder.safetensors", "--on", on, "--with", "knn", *QUICK[:2])
    assert file.exit_code == 0, file.output
    assert f"{100 * first:.1f}" in file.output
    assert read(path) == document


def test_untrained_encoder_has_weights_of_its_seed(on: str, trained: Path, tmp_path: Path) -> None:
    documents = []
    for seed, name in ((1, "a"), (1, "b"), (2, "c")):
        out = tmp_path / f"{name}.json"
        arguments = ("--on", on, "--with", "knn", "--seed", seed, "--out", out, *QUICK[:2])
        result = run(f"untrained:{trained}", *arguments)
        assert result.exit_code == 0, result.output
        documents.append(read(out))
    assert documents[0] == documents[1]
    assert documents[0]["encoder"]["kind"] == "untrained"
    assert (documents[0]["encoder"]["seed"], documents[2]["encoder"]["seed"]) == (1, 2)


def test_top5_and_another_split_to_learn_from(tmp_path: Path) -> None:
    on = make_tars(tmp_path, train=[[0, 1]], shot=[[*range(7)]], test=[[*range(7)]])
    out = tmp_path / "shot.json"
    result = run(
        "pixels:8", "--on", on, "--with", "knn", "--train-split", "shot", "--out", out,
        "--set", "knn.neighbours=7", "--set", "knn.temperature=1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = read(out)
    assert (document["set"]["train_split"], document["set"]["train"]["num_images"]) == ("shot", 7)
    [score] = document["scores"]
    assert score["value"] <= score["top5"] <= 1
    assert f"{100 * score['top5']:.1f}" in result.output
    refused(run("pixels:8", "--on", on, "--train-split", "test"), "on another split than test")


def test_several_encoders_are_compared_in_one_table(on: str, trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("scores"))
    names = ["pixels:8", "pixels:4", str(copy)]
    result = run(*names, "--on", on, *QUICK)
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith(("│ knn", "│ linear"))]
    assert ["knn" in row for row in rows] == [True] * 3 + [False] * 3
    assert ["pixels:8" in row for row in rows] == [True, False, False] * 2
    assert ["pixels:4" in row for row in rows] == [False, True, False] * 2
    assert read(copy / "scores/pictures-test.json")["encoder"]["kind"] == "trained"
    assert run(*names, "--on", on, "--out", tmp_path / "scores", *QUICK).exit_code == 0
    files = {path.name for path in (tmp_path / "scores").iterdir()}
    assert files == {"pixels-8.json", "pixels-4.json", "run.json"}
    refused(
        run("pixels:8", *names, "--on", on, "--out", tmp_path / "x"), "x/pixels-8.json: of both"
    )
    refused(run(*names, tmp_path / "none", "--on", on), "no exported")
    refused(run(*names, "--on", on, "--with", "knn,zero-shot"), "pixels:8 was not trained with")


def test_few_classes_have_no_top5(on: str, tmp_path: Path) -> None:
    assert run("pixels:8", "--on", on, "--out", tmp_path / "s.json", *QUICK).exit_code == 0
    assert [score["top5"] for score in read(tmp_path / "s.json")["scores"]] == [None, None]


def test_test_images_that_are_in_train_are_counted_in_a_note(tmp_path: Path) -> None:
    on = make_folder(tmp_path / "set", train={"x": 3, "y": 3}, val={"x": 1, "y": 1})
    result = run("pixels:8", "--on", on, "--with", "knn", *QUICK[:2])
    assert result.exit_code == 0, result.output
    assert "note: 2 test images are also in train, byte for byte" in result.output


def _rank(number: int, world: int, folder: str, on: str) -> None:
    ranks = {"RANK": number, "WORLD_SIZE": world, "SYNTH_STORE": f"{folder}/store"}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    result = run("pixels:8", "--on", on, "--out", f"{folder}/two.json", *QUICK)
    Path(f"{folder}/{number}.txt").write_text(f"{result.exit_code}\n{result.stdout}")


def test_two_ranks_write_the_scores_of_one(on: str, tmp_path: Path) -> None:
    one = run("pixels:8", "--on", on, "--out", tmp_path / "one.json", *QUICK)
    mp.spawn(_rank, args=(2, str(tmp_path), on), nprocs=2)
    assert read(tmp_path / "two.json") == read(tmp_path / "one.json")
    assert (tmp_path / "0.txt").read_text().startswith("0\n")
    assert "knn" in (tmp_path / "0.txt").read_text()
    assert "knn" in one.output
    assert (tmp_path / "1.txt").read_text() == "0\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "linear.epoch=3"], ["unknown key linear.epoch; did you mean 'epochs'?"]),
        (["--set", "linear.epochs=0"], ["linear.epochs is 0"]),
        (["--set", "linaer.epochs=3"], ["--set linaer: not an", "did you mean 'linear'?"]),
        (["--with", "knn", "--set", "linear.epochs=3"], ["--set linear: not an evaluation that"]),
        (["--set", "knn=3"], ["--set knn: a table, expected knn.key=value"]),
        (["--with", "kn"], ["no evaluation 'kn'", "did you mean 'knn'?"]),
        (["--test-split", "train"], ["test on another split than train"]),
        (["--test-split", "tset"], ["no split 'tset'", "did you mean 'test'?"]),
        (["--device", "cuda:99"], ["device 'cuda:99' cannot be used here"]),
        (["--device", "gpu"], ["device 'gpu' cannot be used here"]),
        (["--seed", "1"], ["--seed: only untrained:RUN draws weights"]),
        (["--with", "zero-shot"], ["zero-shot: pixels:8 was not trained with text"]),
        (["--set", "knn.neighbours=41"], ["train has 40 images and knn.neighbours is 41"]),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    on: str, arguments: list[str], words: list[str]
) -> None:
    refused(run("pixels:8", "--on", on, *arguments), *words)


@pytest.mark.parametrize("name", ["pixels:0", "pixels:x", "pixels:257", "pixels:-1"])
def test_pixels_of_an_impossible_size_are_refused(on: str, name: str) -> None:
    refused(run(name, "--on", on), f"{name}: expected pixels:PX with PX from 1 to 256")


@pytest.mark.parametrize("prefix", ["", "untrained:"])
def test_missing_encoder_is_refused(on: str, tmp_path: Path, prefix: str) -> None:
    """By the path that was given, and not by a file that nobody named."""
    place = tmp_path / "nowhere"
    refused(run(f"{prefix}{place}", "--on", on), f"{place}: no exported encoder here")


def test_damaged_encoder_is_refused(on: str, tmp_path: Path) -> None:
    save_encoder(tmp_path, nn.Linear(2, 2), SPEC, {})
    refused(run(tmp_path, "--on", on), "not the weights of test_vit")


def test_class_that_train_does_not_have_is_refused(tmp_path: Path) -> None:
    on = make_tars(tmp_path, train=[[0, 1, 0, 1]], test=[[0, 2]])
    refused(run("pixels:8", "--on", on, *QUICK), "test image 000000/0001 has class 2", "nobody can")


def test_one_class_is_refused(tmp_path: Path) -> None:
    on = make_tars(tmp_path, train=[[1, 1, 1, 1]], test=[[1]])
    refused(run("pixels:8", "--on", on, *QUICK), "train has one class, 1; expected at least two")


def test_set_without_train_is_refused(tmp_path: Path) -> None:
    on = make_tars(tmp_path, test=[[0, 1]])
    refused(run("pixels:8", "--on", on, *QUICK), "no split 'train', there are test")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"set": 3}', "\0"])
def test_file_that_holds_something_else_is_not_overwritten(
    on: str, tmp_path: Path, content: str
) -> None:
    (tmp_path / "notes.txt").write_text(content)
    result = run("pixels:8", "--on", on, "--out", tmp_path / "notes.txt", *QUICK)
    refused(result, "notes.txt: not a file of scores; give another --out")
    assert (tmp_path / "notes.txt").read_text() == content


def test_scores_of_another_set_are_not_overwritten(on: str, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    assert run("pixels:8", "--on", on, "--out", out, *QUICK).exit_code == 0
    other = make_tars(tmp_path / "other", train=[[0, 1, 1, 1]], test=[[1]])
    refused(run("pixels:8", "--on", other, "--out", out, *QUICK), "holds scores on wds:", on)


def test_scores_of_other_images_are_replaced(on: str, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    run("pixels:8", "--on", on, "--with", "knn", "--out", out, *QUICK[:2])
    members = {"0.png": png(9), "0.cls": b"1"}
    write_tar(tmp_path / "pictures/test/000001.tar", members)
    run("pixels:8", "--on", on, "--with", "linear", "--out", out, *QUICK[2:])
    assert [score["name"] for score in read(out)["scores"]] == ["linear"]


def test_broken_image_is_named(on: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "pictures/test/000001.tar", {"0.png": png()[:40], "0.cls": b"1"})
    refused(run("pixels:8", "--on", on, *QUICK), "pictures/test: 000001/0: the ")


def test_zero_shot_of_an_encoder_with_texts_reads_no_train(tmp_path: Path) -> None:
    encoder = build_encoder(SPEC)
    (tmp_path / "run").mkdir()
    save_encoder(tmp_path / "run", encoder, SPEC, {})
    spec = TextSpec(context_length=16, width=8, heads=1, layers=1, embed_dim=8)
    save_text(tmp_path / "run", ImageText(spec, num_features(encoder, SPEC)))
    on = make_tars(tmp_path / "set", test=[[0, 1, 2]])
    (tmp_path / "set/classnames.txt").write_text("red fox\nblue door\ntwo pears\n")
    arguments = ("--on", on, "--with", "zero-shot", "--device", "cpu")
    result = run(tmp_path / "run", *arguments, "--set", 'zero-shot.templates=["a {c}", "the {c}"]')
    assert result.exit_code == 0, result.output
    document = read(tmp_path / "run/scores/set-test.json")
    assert document["set"]["train"] is None
    assert document["scores"][0]["details"]["templates"] == ["a {c}", "the {c}"]
    assert document["scores"][0]["num_test"] == 3
    refused(
        run(tmp_path / "run", *arguments, "--set", 'zero-shot.templates=["a {}"]'), "has no {c}"
    )
    (tmp_path / "set/classnames.txt").unlink()
    refused(run(tmp_path / "run", *arguments), "does not name its classes; add classnames.txt")


def text_run(folder: Path) -> Path:
    """A run with a text half, of random weights."""
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build_encoder(SPEC)
        save_encoder(folder, encoder, SPEC, {})
        spec = TextSpec(context_length=16, width=8, heads=1, layers=1, embed_dim=8)
        save_text(folder, ImageText(spec, num_features(encoder, SPEC)))
    return folder


def test_captions_and_images_are_found_in_both_directions(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for position in range(12):
        members[f"{position}.png"] = png(20 * position)
        members[f"{position}.txt"] = f"a photo of {position}\nnumber {position}".encode()
    write_tar(tmp_path / "captions/test/0.tar", members)
    (tmp_path / "captions/dataset_type.txt").write_text("retrieval\n")
    run_folder = text_run(tmp_path / "run")
    on = f"wds:{tmp_path}/captions"
    names = ("--with", "text-retrieval,image-retrieval", "--device", "cpu")
    result = run(run_folder, "--on", on, *names)
    assert result.exit_code == 0, result.output
    for word in ("recall@1", "recall@5", "recall@10", "text-retrieval", "image-retrieval"):
        assert word in result.output
    assert "top-5 %" not in result.output
    document = read(run_folder / "scores/captions-test.json")
    assert document["set"]["train"] is None
    texts, images = document["scores"]
    assert (texts["metric"], texts["num_test"]) == ("recall@1", 12)
    assert (images["metric"], images["num_test"]) == ("recall@1", 24)
    for score in (texts, images):
        recalls = score["value"], score["details"]["recall@5"], score["details"]["recall@10"]
        assert sorted(recalls) == list(recalls)
    refused(run(run_folder, "--on", on, "--with", "knn"), "knn: is for sets of", "of retrieval")
    refused(run("pixels:8", "--on", on, *names), "pixels:8 was not trained with text")
    refused(
        run(run_folder, "--on", on, *names, "--metric", "top-1"),
        "is a set of retrieval, which is measured by recall@1, not by top-1",
    )
    # Another caption is another set: its scores are not kept beside the old ones.
    before = document["set"]["test"]["fingerprint"]
    write_tar(tmp_path / "captions/test/0.tar", members | {"0.txt": b"another"})
    assert run(run_folder, "--on", on, *names).exit_code == 0
    assert read(run_folder / "scores/captions-test.json")["set"]["test"]["fingerprint"] != before


def test_images_of_several_classes_are_measured_by_their_mean_average_precision(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 30)):
        members: dict[str, bytes] = {}
        for position in range(count):
            red, green = position % 2, position // 2 % 2
            pixels = rng.integers(0, 60, (8, 8, 3)) + np.array([150 * red, 150 * green, 0])
            members[f"{position:03d}.png"] = encoded(pixels.astype(np.uint8), "png")
            labels = [str(label) for label, is_so in enumerate((red, green)) if is_so]
            members[f"{position:03d}.cls"] = " ".join(labels).encode()
        write_tar(tmp_path / "colours" / split / "0.tar", members)
    (tmp_path / "colours/dataset_type.txt").write_text("multilabel")
    (tmp_path / "colours/classnames.txt").write_text("red\ngreen\n")
    out = tmp_path / "scores.json"
    on = ("--on", f"wds:{tmp_path}/colours", "--out", out, "--device", "cpu")
    result = run("pixels:8", *on, "--with", "knn,logistic", *QUICK[:2])
    assert result.exit_code == 0, result.output
    assert "map-11" in result.output
    assert "per class" not in result.output
    for score in read(out)["scores"]:
        assert (score["metric"], score["num_test"]) == ("map-11", 30)
        assert 0.95 < score["value"] <= 1
        assert score["low"] < score["value"]
    assert "penalty" in read(out)["scores"][1]["details"]
    refused(run("pixels:8", *on, "--with", "linear"), "linear: is for sets of classification")


def test_metric_of_a_set_is_asked_for(on: str, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    asked = ("--metric", "mean-per-class", "--with", "knn")
    result = run("pixels:8", "--on", on, "--out", out, *asked, *QUICK[:2])
    assert result.exit_code == 0, result.output
    assert "mean-per-class" in result.output
    (score,) = read(out)["scores"]
    assert score["metric"] == "mean-per-class"
    assert score["value"] == score["details"]["mean_per_class"]


def test_crop_is_a_setting_and_part_of_what_is_scored(on: str, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    knn = ("--on", on, "--out", out, "--with", "knn", *QUICK[:2])
    assert run("pixels:4", *knn).exit_code == 0
    plain = read(out)
    result = run("pixels:4", *knn, "--set", "crop.fraction=0.5", "--set", "crop.resampling=box")
    assert result.exit_code == 0, result.output
    document = read(out)
    assert document["encoder"]["crop"] == {"fraction": 0.5, "resampling": "box"}
    assert "crop" not in plain["encoder"]
    refused(run("pixels:4", *knn, "--set", "crop.fraction=2"), "crop.fraction")
    refused(run("pixels:4", *knn, "--set", "crop.fractoin=1"), "fractoin", "fraction")


def test_augmented_probe_is_run_as_it_is_set(on: str, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    settings = ("linear-augmented.epochs=4", "linear-augmented.crop_scale=[0.5,1]")
    arguments = [word for setting in settings for word in ("--set", setting)]
    result = run("pixels:4", "--on", on, "--out", out, "--with", "knn,linear-augmented",
                 *QUICK[:2], *arguments, "--device", "cpu")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert [score["name"] for score in read(out)["scores"]] == ["knn", "linear-augmented"]
    score = read(out)["scores"][1]
    assert score["value"] == 1
    assert score["settings"]["epochs"] == 4
    assert score["details"]["rate"] in score["settings"]["rates"]
