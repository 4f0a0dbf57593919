"""The file of scores: one encoder on one split of one set, by one evaluation after the other."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import read_regular, write_whole

FORMAT_VERSION = 1
MAX_BYTES = 16 << 20
"""Largest file of scores that is read."""


class _ScoredSet(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    test_split: str
    num_classes: int
    train: dict[str, Any] | None
    test: dict[str, Any]
    num_test_in_train: int


class _Score(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str


class _Document(BaseModel):
    """What must be there for scores to be added; everything else is kept as it is."""

    model_config = ConfigDict(strict=True)
    encoder: dict[str, Any]
    set: _ScoredSet
    scores: list[_Score]


def scores_path(run: Path | None, set_name: str, test_split: str) -> Path | None:
    """Default path of the scores: inside the run, or None if the encoder is not from a run."""
    if run is None:
        return None
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", re.split(r"[/:]", set_name)[-1]).strip("-.")
    return run / "scores" / f"{name or 'set'}-{test_split}.json"


def read_scores(path: Path, *, set_name: str, test_split: str) -> dict[str, Any] | None:
    """The scores in a file, or None if there is no such file.

    Raises:
        ConfigError: The file holds something else, or scores of another set.
    """
    try:
        document = json.loads(read_regular(path, max_bytes=MAX_BYTES))
        scored = _Document.model_validate(document).set
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{path}: not a file of scores; give another --out") from exc
    if (scored.name, scored.test_split) != (set_name, test_split):
        raise ConfigError(
            f"{path}: holds scores on {scored.name} ({scored.test_split}); give another --out for "
            f"{set_name}"
        )
    return dict(document)


def write_scores(path: Path, document: Mapping[str, Any]) -> None:
    """Write scores, beside those of other evaluations of the same encoder on the same images.

    Scores of another encoder or of other images are replaced.

    Raises:
        ConfigError: See `read_scores`; or the file cannot be written.
    """
    scored = document["set"]
    kept = read_scores(path, set_name=scored["name"], test_split=scored["test_split"])
    scores = {score["name"]: score for score in document["scores"]}
    if kept is not None and _is_comparable(kept, document):
        scores = {score["name"]: score for score in kept["scores"]} | scores
        if scored["train"] is None:  # the kept scores were trained on something, which still holds
            facts = {name: kept["set"][name] for name in ("train", "num_test_in_train")}
            document = {**document, "set": {**scored, **facts}}
    text = json.dumps({**document, "scores": list(scores.values())}, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{text}\n".encode())
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written ({exc.strerror}); choose --out") from exc


def _is_comparable(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether one encoder was tested on the same images, and trained on the same if at all."""

    def identity(document: Mapping[str, Any]) -> list[Any]:
        encoder = {key: value for key, value in document["encoder"].items() if key != "name"}
        return [encoder, document["set"]["test"], document["set"]["num_classes"]]

    trains = [document["set"]["train"] for document in (old, new)]
    return identity(old) == identity(new) and (None in trains or trains[0] == trains[1])
