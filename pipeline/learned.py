"""What was learned from a set: folders of `synth train` and scores of `synth evaluate`, as files.

The pipeline and the trainer do not import each other, so the files are the contract.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import CorruptError, ForeignSetError
from manifests.foundation.errors import ConfigError
from manifests.foundation.files import read_regular

MAX_BYTES = 64 << 20
"""Largest file of a run that is read."""
MAX_RUNS = 24
"""Most runs of one page, each a curve in one plot."""
MAX_POINTS = 120
"""Points of a curve: of more steps, each point is the mean of several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training that learned from the set."""

    name: str
    objective: str
    steps: int
    losses: Sequence[tuple[float, float]]
    """Step and loss."""
    scores: Sequence[tuple[float, float]]
    """Step and k-NN accuracy on the set that the run was scored on meanwhile, from 0 to 1."""
    scored_on: str
    """What the accuracy is, such as "top-1 on imagefolder:cars, val"; empty if nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One encoder by one evaluation, as shares of test images from 0 to 1."""

    encoder: str
    test: str
    """Set and evaluation, such as "pictograms, knn"."""
    value: float
    low: float
    high: float


def runs_of(paths: Sequence[Path], *, root_sha256: str | None) -> list[tuple[Path, Run]]:
    """The runs that learned from a set: the folders themselves, or those in them.

    Args:
        root_sha256: Hash of the set, of which each run records the one that it learned from.

    Raises:
        ForeignSetError: A folder is no run and holds none, or a run learned from another set.
        ConfigError: There are more runs than a page can show.
        CorruptError: A file of a run is damaged.
    """
    runs = []
    for path in paths:
        is_run = (path / "run.json").exists()
        folders = [path] if is_run else sorted(one.parent for one in path.glob("*/run.json"))
        if not folders:
            raise ForeignSetError(f"--run {path}: no run of `synth train` here, nor in its folders")
        for folder in folders:
            document = _document(folder / "run.json")
            identity = document.get("identity")
            origin = identity.get("set") if isinstance(identity, dict) else None
            origin = origin.get("root_sha256") if isinstance(origin, dict) else None
            if root_sha256 is not None and origin == root_sha256:
                runs.append((folder, _run(folder, identity, document.get("sessions"))))
            elif is_run:
                raise ForeignSetError(
                    f"--run {path}: learned from another set, of root {str(origin)[:16]}; this one "
                    f"has {root_sha256[:16] if root_sha256 else 'none, it is not sealed'}"
                )
    if len(runs) > MAX_RUNS:
        raise ConfigError(
            f"--run: {len(runs)} runs learned from this set, and a page shows at most {MAX_RUNS}; "
            "name those that it is to show, each with --run"
        )
    return runs


def _run(folder: Path, identity: Any, sessions: Any) -> Run:
    objective, schedule = identity.get("objective"), identity.get("schedule")
    steps = schedule.get("steps") if isinstance(schedule, dict) else None
    lines = _lines(folder / "metrics.jsonl")
    return Run(
        name=folder.resolve().name,
        objective=str(objective.get("name")) if isinstance(objective, dict) else "",
        steps=steps if isinstance(steps, int) else 0,
        losses=_curve(lines, "loss"),
        scores=_curve(lines, "knn"),
        scored_on=_scored_on(sessions),
    )


def _scored_on(sessions: Any) -> str:
    """See Run; as the last start of the run has it."""
    last = sessions[-1] if isinstance(sessions, list) and sessions else None
    knn = last.get("knn") if isinstance(last, dict) else None
    if not isinstance(knn, dict):
        return ""
    return f"{knn.get('metric')} on {knn.get('set')}, {knn.get('split')}"


def _curve(lines: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    points = []
    for line in lines:
        step, value = line.get("step"), line.get(key)
        # A value that was not finite is null in the file.
        if isinstance(step, int) and isinstance(value, int | float):
            points.append((float(step), float(value)))
    width = -(-len(points) // MAX_POINTS) or 1
    parts = [points[start : start + width] for start in range(0, len(points), width)]
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part))
        for part in parts
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a file that a training may be writing: the last one may be cut."""
    try:
        data = read_regular(path, max_bytes=MAX_BYTES, may_grow=True)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise CorruptError(f"{path}: cannot be read ({exc.strerror}); restore it") from exc
    lines = []
    for text in data.split(b"\n")[:-1]:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise CorruptError(f"{path}: a line is not JSON; restore it from a copy") from exc
        if isinstance(line, dict):
            lines.append(line)
    return lines


def scores_in(paths: Sequence[Path]) -> list[Score]:
    """Scores in files of `synth evaluate`, or in the folders of such files.

    Raises:
        CorruptError: A file is none of scores.
    """
    scores = []
    for path in paths:
        if not path.is_dir():
            scores += _scores(path, _document(path))
            continue
        for file in sorted(path.glob("**/*.json")):
            document = _document(file)
            if "scores" in document:  # a suite leaves other files beside them
                scores += _scores(file, document)
    return scores


def _scores(path: Path, document: Mapping[str, Any]) -> list[Score]:
    try:
        test, encoder = document["set"], str(document["encoder"]["name"])
        name = f"{str(test['name']).rsplit('/')[-1]}, {test['train_split']} to {test['test_split']}"
        return [
            Score(
                # A run by its folder, and what stands before it: `untrained:runs/a` is another.
                encoder=f"{kind}:{place.rsplit('/')[-1]}" if kind else place.rsplit("/")[-1],
                test=f"{name}, {score['name']}, {score['metric']}",
                value=float(score["value"]),
                low=float(score["low"]),
                high=float(score["high"]),
            )
            for kind, _, place in [encoder.rpartition(":")]
            for score in document["scores"]
            if {"metric", "value", "low", "high"} <= score.keys()
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as exc:
        raise CorruptError(
            f"{path}: not a file of scores of `synth evaluate`; leave it out"
        ) from exc


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_regular(path, max_bytes=MAX_BYTES))
    except (OSError, ValueError, RecursionError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not JSON"
        raise CorruptError(
            f"{path}: cannot be read ({reason}); restore it, or leave it out"
        ) from exc
    if not isinstance(document, dict):
        raise CorruptError(f"{path}: holds no JSON object; restore it, or leave it out")
    return document
