"""Many encoders on many labelled sets: what a suite is, and how it is run.

A suite is resumed by running it again: scores whose encoder, images, classes and settings are still
the same are taken from their files. What fails costs its own cell of the table and no other.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pydantic import Field

from manifests.foundation.errors import ConfigError, SynthError
from manifests.foundation.messages import one_line, redact
from manifests.foundation.settings import Table
from trainer.config import Precision
from trainer.distributed import rank, world_size
from trainer.errors import DataError
from trainer.evaluations import ChosenEvaluation, choose_evaluations, require_possible
from trainer.features import GATHER_TIMEOUT, fingerprint
from trainer.frozen_encoders import Crop, FrozenEncoder, HeldAs, cropped, open_encoder
from trainer.labelled_sets import LabelledSet, open_labelled
from trainer.score_file import files_in, read_scores, write_scores
from trainer.scoring import classes_fingerprint, known_classes, score_encoder
from trainer.tasks import Metric

_Value = TypeVar("_Value")


class SuiteSet(Table):
    """An entry of [[sets]]."""

    on: str
    """Address of the labelled set."""
    name: str = ""
    """Of its column and of the folder of its scores; the last part of the address if empty."""
    evaluations: tuple[str, ...] = ()
    """Those of the suite if empty."""
    train_split: str = "train"
    test_split: str = ""
    """`test`, or `val` if there is no test, if empty."""
    metric: Metric | None = None
    """What is measured on it; None for what its task has: see trainer.tasks."""
    crop: Crop = Crop()
    """How its images are resized and cropped; as each encoder says it if empty."""

    def title(self) -> str:
        """The name, or what an address has in its place."""
        last = self.name or re.split(r"[/:]", redact(self.on).rstrip("/"))[-1]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "set"


class Suite(Table):
    """A suite file; addresses and paths in it are relative to its folder."""

    encoders: tuple[str, ...] = Field(min_length=1)
    sets: tuple[SuiteSet, ...] = Field(min_length=1)
    evaluations: tuple[str, ...] = Field(default=("knn", "linear"), min_length=1)
    settings: dict[str, dict[str, Any]] = Field(default={})
    """A table for each evaluation that has settings, as [settings.linear]."""
    precision: Precision = "fp32"
    """What the towers compute in."""
    features: HeldAs = "float32"
    """What features are rounded to and held as: half precision halves the memory."""
    out: str = "scores"
    """Folder of the scores, a folder in it for each set, and of the table and the plot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What came of one encoder on one set."""

    encoder: str
    """Address without secrets."""
    set: str
    """Title of the set."""
    document: Mapping[str, Any] | None = None
    """The file of scores, with the evaluations of the suite alone; None if the cell failed."""
    num_kept: int = 0
    """Evaluations whose scores were there already."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Evaluations that this encoder or this set does not allow, each with the reason."""
    failure: str = ""
    """Why there are no scores, in one line."""


def run_suite(suite: Suite, *, device: torch.device, batch_size: int) -> list[Cell]:
    """Score every encoder on every set.

    Collective: every rank makes features, rank 0 alone reads and writes scores.

    Args:
        suite: Its addresses are relative to the working directory.
        device: Where encoders and classifiers compute.
        batch_size: Images encoded at once.

    Returns:
        Encoders in their order, each with all sets; complete on rank 0 alone.

    Raises:
        ConfigError: A setting is wrong, or two encoders or two sets would share a file.
        PluginError: An evaluation is unknown.
    """
    titles = [entry.title() for entry in suite.sets]
    if twice := sorted({title for title in titles if titles.count(title) > 1}):
        raise ConfigError(f"suite: two sets are named {twice[0]}; give one of them a name")
    plans = _plans(suite)
    labelled = [_attempt(partial(open_labelled, entry.on)) for entry in suite.sets]
    names = [redact(address) for address in suite.encoders]
    paths = {title: files_in(Path(suite.out) / title, names) for title in titles}
    fingerprints: dict[tuple[str, str], str] = {}
    cells: list[Cell] = []
    for number, (name, address) in enumerate(zip(names, suite.encoders, strict=True)):
        encoder = _attempt(
            partial(
                open_encoder,
                address,
                device=device,
                seed=None,
                held_as=suite.features,
                precision=suite.precision,
            )
        )
        for title, entry, opened in zip(titles, suite.sets, labelled, strict=True):
            path = paths[title][number]
            assert path is not None
            plan = plans[entry.evaluations or suite.evaluations]
            done = _attempt(
                partial(_score, encoder, opened, entry, plan, path, batch_size, fingerprints)
            )
            if isinstance(done, str):
                cells.append(Cell(encoder=name, set=title, failure=done))
            else:
                cells.append(Cell(encoder=name, set=title, **done))
    return cells


def _plans(suite: Suite) -> dict[tuple[str, ...], dict[str, ChosenEvaluation]]:
    """The evaluations of each set, checked before anything is opened."""
    wanted = dict.fromkeys(entry.evaluations or suite.evaluations for entry in suite.sets)
    everything = list(dict.fromkeys(name for names in wanted for name in names))
    choose_evaluations(everything, suite.settings)  # refuses settings that belong to none of them
    return {
        names: choose_evaluations(
            names,
            {
                short: suite.settings[short]
                for short in (name.rpartition(":")[2] for name in names)
                if short in suite.settings
            },
        )
        for names in wanted
    }


def _attempt(work: Callable[[], _Value]) -> _Value | str:
    """What the work returns, or in one line why it failed."""
    try:
        return work()
    except SynthError as exc:
        return one_line(exc)
    # Hours of other cells are worth more than an early end; the log has the traceback.
    except Exception as exc:
        logging.getLogger(__name__).exception("a cell of the suite")
        return f"{type(exc).__name__}: {one_line(exc)}"


def _score(
    encoder: FrozenEncoder | str,
    labelled: LabelledSet | str,
    entry: SuiteSet,
    plan: Mapping[str, ChosenEvaluation],
    path: Path,
    batch_size: int,
    fingerprints: dict[tuple[str, str], str],
) -> dict[str, Any]:
    """Fields of a cell: what is there is kept, and the rest is computed and written.

    Raises:
        DataError: The encoder or the set could not be opened; the text in its place says why.
        SynthError: It cannot be evaluated, or its file is of something else.
    """
    if isinstance(encoder, str):
        raise DataError(encoder)
    if isinstance(labelled, str):
        raise DataError(labelled)
    encoder = cropped(encoder, entry.crop)
    known = known_classes(labelled, entry.metric)
    splits = {
        "train_split": entry.train_split,
        "test_split": entry.test_split or labelled.test_split(),
    }
    left_out: dict[str, str] = {}
    for name, chosen in plan.items():
        try:
            require_possible(name, chosen.evaluation, encoder, known)
        except DataError as exc:
            left_out[name] = one_line(exc)
    possible = {name: chosen for name, chosen in plan.items() if name not in left_out}
    kept = _from_rank_0(
        lambda: _kept(path, encoder, labelled, splits, possible, known.metric, fingerprints)
    )
    missing = {name: chosen for name, chosen in possible.items() if name not in kept}
    if missing:
        document = score_encoder(
            encoder,
            labelled,
            missing,
            train_split=splits["train_split"],
            test_split=splits["test_split"],
            batch_size=batch_size,
            metric=known.metric,
        )
        if document is not None:
            write_scores(path, document)
    document = None
    if possible and not rank():
        document = read_scores(path, set_name=labelled.name, **splits)
        assert document is not None
        scores = {score["name"]: score for score in document["scores"]}
        document = {**document, "scores": [scores[name] for name in possible]}
    return {"document": document, "num_kept": len(kept), "left_out": left_out}


def _kept(
    path: Path,
    encoder: FrozenEncoder,
    labelled: LabelledSet,
    splits: Mapping[str, str],
    plan: Mapping[str, ChosenEvaluation],
    metric: Metric,
    fingerprints: dict[tuple[str, str], str],
) -> list[str]:
    """Evaluations whose scores in the file are those that would be computed now.

    The images are read and hashed for it, once for each set, and neither decoded nor encoded.
    """
    document = read_scores(path, set_name=labelled.name, **splits)
    if document is None:
        return []
    scored = document["set"]

    def identity(facts: Mapping[str, Any]) -> Any:
        """What decides the features, as it comes back from a file."""
        return json.loads(json.dumps({key: facts[key] for key in facts if key != "name"}))

    def is_same(split: str, counts: Mapping[str, Any] | None) -> bool:
        key = labelled.name, split
        if key not in fingerprints:
            fingerprints[key] = fingerprint(labelled.split(split))
        return counts is not None and counts.get("fingerprint") == fingerprints[key]

    if (
        identity(document["encoder"]) != identity(encoder.facts)
        or scored.get("classes_sha256") != classes_fingerprint(labelled)
        or not is_same(splits["test_split"], scored["test"])
    ):
        return []
    settings = {
        score["name"]: score.get("settings")
        for score in document["scores"]
        if score.get("metric") == metric
    }
    same = [name for name, chosen in plan.items() if settings.get(name) == chosen.settings]
    if any(plan[name].evaluation.needs_train for name in same) and not is_same(
        splits["train_split"], scored["train"]
    ):
        return [name for name in same if not plan[name].evaluation.needs_train]
    return same


def _from_rank_0(work: Callable[[], Sequence[str]]) -> Sequence[str]:
    """What the work gives on rank 0, on all ranks: they have to compute the same cells.

    Raises:
        DataError: It failed there.
    """
    if world_size() == 1:
        return work()
    answer: list[Any] = [None if rank() else _attempt(work)]
    group: Any = dist.new_group(backend="gloo", timeout=GATHER_TIMEOUT)
    dist.broadcast_object_list(answer, src=0, group=group)
    if isinstance(answer[0], str):
        raise DataError(answer[0])
    kept: Sequence[str] = answer[0]
    return kept
