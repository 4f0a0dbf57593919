"""The file of scores of one encoder on one split of one set, with an entry for each evaluation.

Evaluations may be run on different days: what is written is merged with what the file holds.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import read_regular, write_whole

FORMAT_VERSION = 2
"""2 has `metric` and `value` in place of `accuracy`."""
MAX_BYTES = 16 << 20
"""Largest file of scores that is read."""


class _ScoredSet(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    train_split: str
    test_split: str
    num_classes: int
    train: dict[str, Any] | None
    test: dict[str, Any]
    num_test_in_train: int


class _Score(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str


class _Document(BaseModel):
    """The keys that adding scores needs. Others are not checked, and they are kept as they are."""

    model_config = ConfigDict(strict=True)
    format_version: int
    encoder: dict[str, Any]
    set: _ScoredSet
    scores: list[_Score]


def scores_path(
    run: Path | None, set_name: str, *, train_split: str, test_split: str
) -> Path | None:
    """Default path of the scores: inside the run, or None if the encoder is not from a run.

    Example: run `r`, set `wds:s3://bucket/cars` and split `test` give `r/scores/cars-test.json`,
    and `r/scores/cars-shot-test.json` if the classifiers learned from the split `shot`.
    """
    if run is None:
        return None
    # The last part of an address, with nothing in it that could leave the folder or hide the file.
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", re.split(r"[/:]", set_name)[-1]).strip("-.")
    splits = test_split if train_split == "train" else f"{train_split}-{test_split}"
    return run / "scores" / f"{name or 'set'}-{splits}.json"


def files_in(folder: Path, encoders: Sequence[str]) -> list[Path | None]:
    """Paths of the scores of several encoders in one folder.

    Example: `runs/a`, `untrained:runs/a` and `pixels:32` give a.json, untrained-a.json and
    pixels-32.json.

    Raises:
        ConfigError: Two encoders would share a file.
    """
    paths: dict[Path, str] = {}
    for address in encoders:
        kind, _, place = address.rpartition(":")
        last = Path(place).name
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{kind}:{last}" if kind else last).strip("-.")
        path = folder / f"{name or 'encoder'}.json"
        if path in paths:
            raise ConfigError(
                f"{path}: of both {paths[path]} and {address}; evaluate one of them by itself"
            )
        paths[path] = address
    return list(paths)


def read_scores(
    path: Path, *, set_name: str, train_split: str, test_split: str
) -> dict[str, Any] | None:
    """The scores in a file, or None if there is no such file, or one of an earlier version.

    Raises:
        ConfigError: The file is none of scores, or holds scores on another set or split.
    """
    try:
        document = json.loads(read_regular(path, max_bytes=MAX_BYTES))
        known = _Document.model_validate(document)
        scored = known.set
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{path}: not a file of scores; give another --out") from exc
    if (scored.name, scored.train_split, scored.test_split) != (set_name, train_split, test_split):
        raise ConfigError(
            f"{path}: holds scores on {scored.name} ({scored.train_split} to {scored.test_split}); "
            f"give another --out for {set_name} ({train_split} to {test_split})"
        )
    return dict(document) if known.format_version == FORMAT_VERSION else None


def write_scores(path: Path, document: Mapping[str, Any]) -> None:
    """Write scores, and keep those that the file has of other evaluations.

    Only scores of the same encoder on the same images are kept; any others are replaced.

    Args:
        path: The file; its folder is made if it does not exist.
        document: What `trainer.scoring.score_encoder` returns.

    Raises:
        ConfigError: As `read_scores` raises it, or the file cannot be written.
    """
    scored = document["set"]
    kept = read_scores(
        path,
        set_name=scored["name"],
        train_split=scored["train_split"],
        test_split=scored["test_split"],
    )
    scores = {score["name"]: score for score in document["scores"]}
    if kept is not None and _is_comparable(kept, document):
        scores = {score["name"]: score for score in kept["scores"]} | scores
        # A run of zero-shot alone does not read train; what the kept scores were trained on stays.
        if scored["train"] is None:
            facts = {name: kept["set"][name] for name in ("train", "num_test_in_train")}
            document = {**document, "set": {**scored, **facts}}
    text = json.dumps({**document, "scores": list(scores.values())}, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{text}\n".encode())
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written ({exc.strerror}); choose --out") from exc


def _is_comparable(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether one encoder was tested on the same images, and on the same train if both used one."""

    def identity(document: Mapping[str, Any]) -> list[Any]:
        # By its content: the same encoder may have been named by another address.
        encoder = {key: value for key, value in document["encoder"].items() if key != "name"}
        return [encoder, document["set"]["test"], document["set"]["num_classes"]]

    trains = [document["set"]["train"] for document in (old, new)]
    return identity(old) == identity(new) and (None in trains or trains[0] == trains[1])
