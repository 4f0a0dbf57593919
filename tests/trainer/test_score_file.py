"""Scores are added to those of the same encoder and images, and nothing else is overwritten."""

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from manifests.foundation.errors import ConfigError
from tests.sets import refused
from trainer.score_file import FORMAT_VERSION, MAX_BYTES, read_scores, scores_path, write_scores

DOCUMENT: dict[str, Any] = {
    "format_version": FORMAT_VERSION,
    "encoder": {"name": "run", "kind": "trained", "sha256": "ab"},
    "set": {
        "name": "wds:pictures",
        "train_split": "train",
        "test_split": "test",
        "num_classes": 2,
        "train": {"num_images": 4},
        "test": {"num_images": 2},
        "num_test_in_train": 1,
    },
    "scores": [{"name": "knn", "value": 0.5}],
}


def changed(**changes: Any) -> dict[str, Any]:
    """The document with other values; `encoder.name=...` is written encoder__name."""
    document = deepcopy(DOCUMENT)
    for path, value in changes.items():
        *tables, name = path.split("__")
        node = document
        for table in tables:
            node = node[table]
        node[name] = value
    return document


LINEAR = [{"name": "linear", "value": 0.75}]


def names_after(path: Path, document: dict[str, Any]) -> list[str]:
    """Names of the scores in a file after DOCUMENT and then another document were written."""
    write_scores(path, DOCUMENT)
    write_scores(path, document)
    return [score["name"] for score in json.loads(path.read_text())["scores"]]


def test_scores_of_another_evaluation_are_added(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.json"
    assert names_after(path, changed(scores=LINEAR, encoder__name="same")) == ["knn", "linear"]


def test_a_new_score_of_one_evaluation_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    assert names_after(path, changed(scores=[{"name": "knn", "value": 1.0}])) == ["knn"]
    assert json.loads(path.read_text())["scores"][0]["value"] == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder__sha256": "cd"},
        {"set__test": {"num_images": 3}},
        {"set__num_classes": 3},
        {"set__train": {"num_images": 5}},
    ],
    ids=str,
)
def test_scores_of_another_encoder_or_of_other_images_are_replaced(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    assert names_after(tmp_path / "scores.json", changed(scores=LINEAR, **changes)) == ["linear"]


def test_scores_of_an_earlier_version_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(changed(format_version=1)))
    splits = {"set_name": "wds:pictures", "train_split": "train", "test_split": "test"}
    assert read_scores(path, **splits) is None
    write_scores(path, changed(scores=LINEAR))
    assert [score["name"] for score in json.loads(path.read_text())["scores"]] == ["linear"]


def test_facts_of_train_are_kept_when_new_scores_did_not_read_it(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    without = changed(scores=LINEAR, set__train=None, set__num_test_in_train=0)
    assert names_after(path, without) == ["knn", "linear"]
    kept = json.loads(path.read_text())["set"]
    assert (kept["train"], kept["num_test_in_train"]) == ({"num_images": 4}, 1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "\0", "3", "null", '{"set": 3}', "[" * 100_000, '{"a":' * 100_000),
        *("9" * 100_000, '{"encoder": ' + "9" * 100_000 + "}"),
        *(
            json.dumps(changed(**changes))
            for changes in (
                {"encoder": []},
                {"encoder": None},
                {"set__test": 3},
                {"set__train": "all"},
                {"set__num_classes": "2"},
                {"scores": {"name": "knn"}},
                {"scores": [{"name": 3}]},
                {"scores": ["knn"]},
            )
        ),
    ],
    ids=lambda text: text[:20],
)
def test_a_file_of_something_else_is_refused_and_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(text)
    with refused(ConfigError, f"{path}: not a file of scores; give another --out"):
        write_scores(path, DOCUMENT)
    assert path.read_text() == text


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", MAX_BYTES + 1)
    for path in (tmp_path / "pipe", tmp_path / "large", tmp_path, Path("/dev/zero")):
        with refused(ConfigError, f"{path}: not a file of scores; give another --out"):
            read_scores(path, set_name="wds:pictures", train_split="train", test_split="test")


def test_scores_of_another_split_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_scores(path, DOCUMENT)
    held = "holds scores on wds:pictures (train to test); give another --out for "
    with refused(ConfigError, f"{held}x (train to test)"):
        read_scores(path, set_name="x", train_split="train", test_split="test")
    with refused(ConfigError, f"{held}wds:pictures (shot to test)"):
        read_scores(path, set_name="wds:pictures", train_split="shot", test_split="test")


def test_scores_are_kept_in_the_run_under_the_name_of_the_set() -> None:
    def name(run: Path | None, set_name: str, *splits: str) -> Path | None:
        return scores_path(run, set_name, train_split=splits[0], test_split=splits[1])

    assert name(None, "wds:x", "train", "test") is None
    run, scores = Path("run"), Path("run/scores")
    assert name(run, "wds:s3://b/some set", "train", "val") == scores / "some-set-val.json"
    assert name(run, "wds:x", "shot", "test") == scores / "x-shot-test.json"
    assert name(run, "wds:..", "train", "test") == scores / "set-test.json"
