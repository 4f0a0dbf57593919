"""From the name of an encoder and of a labelled set to scores, and to the file they are kept in."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import write_whole
from manifests.foundation.plugins import did_you_mean
from manifests.foundation.settings import check
from trainer.data.labelled import LabelledSet
from trainer.distributed import rank, world_size
from trainer.errors import DataError
from trainer.evaluations import Classes, Evaluation, Subject, evaluation_class, run
from trainer.features import Encode, Features, extract
from trainer.models.encoder import (
    WEIGHTS,
    EncoderSpec,
    build_encoder,
    load_encoder,
    normalize,
    read_spec,
)
from trainer.models.text import load_text

FORMAT_VERSION = 1
MAX_PIXELS_PX = 256
"""Raw pixels are taken at this size at most: 196,608 features an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examinee:
    """An encoder as it is evaluated."""

    subject: Subject
    encode: Encode
    input_px: int
    crop_fraction: float
    facts: Mapping[str, Any]
    """What identifies it, as JSON; `name` is how it was called."""
    run: Path | None
    """The run that it is the encoder of: its scores are kept there."""


def open_encoder(name: str, *, device: torch.device, seed: int | None) -> Examinee:
    """The encoder behind a run folder, an encoder.safetensors, `untrained:RUN` or `pixels[:PX]`.

    Args:
        name: See above.
        device: Where it computes.
        seed: Of the weights of `untrained:RUN`, 0 if None; refused for anything else.

    Raises:
        CheckpointError: No encoder is there, or a broken one.
        ConfigError: A name that means nothing, or a seed that nothing takes.
    """
    kind, _, place = name.partition(":")
    if kind == "untrained":
        spec = read_spec(Path(place))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            encoder = build_encoder(spec).eval()
        facts = {"name": name, "kind": "untrained", "seed": seed or 0}
        return _examinee(encoder, spec, Subject(name=name, device=str(device)), facts, None)
    if seed is not None:
        raise ConfigError(f"--seed: only untrained:RUN draws weights, {name} has its own")
    if kind == "pixels":
        return _pixels(name, place or "32", device)
    path = Path(name)
    encoder, spec = load_encoder(path)
    folder = path if path.is_dir() else path.parent
    with (folder / WEIGHTS if path.is_dir() else path).open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    text = load_text(folder)
    subject = Subject(
        name=name,
        device=str(device),
        text=None if text is None else text.to(device).embed_texts,
        project=None if text is None else text.embed_features,
    )
    facts = {"name": name, "kind": "trained", "sha256": digest}
    return _examinee(encoder, spec, subject, facts, folder if path.is_dir() else None)


def _examinee(
    encoder: nn.Module,
    spec: EncoderSpec,
    subject: Subject,
    facts: Mapping[str, Any],
    folder: Path | None,
) -> Examinee:
    encoder = encoder.to(subject.device)

    def encode(images: Tensor) -> Tensor:
        features: Tensor = encoder(normalize(images, spec))
        return features

    return Examinee(
        subject=subject,
        encode=encode,
        input_px=spec.input_px,
        crop_fraction=spec.crop_fraction,
        facts={**facts, "spec": spec.model_dump(mode="json")},
        run=folder,
    )


def _pixels(name: str, size: str, device: torch.device) -> Examinee:
    if not size.isdigit() or len(size) > 3 or not 1 <= int(size) <= MAX_PIXELS_PX:
        raise ConfigError(f"{name}: expected pixels:PX with PX from 1 to {MAX_PIXELS_PX}")
    return Examinee(
        subject=Subject(name=name, device=str(device)),
        encode=lambda images: images.flatten(1).float() / 255,
        input_px=int(size),
        crop_fraction=1.0,
        facts={"name": name, "kind": "pixels", "input_px": int(size)},
        run=None,
    )


def open_evaluations(
    names: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, tuple[Evaluation, dict[str, Any]]]:
    """Evaluations by name, each with all its settings.

    Args:
        names: Of the table, or dotted paths; the part after the colon is then the name.
        settings: A table for each of them, not checked yet.

    Raises:
        ConfigError: A table that belongs to none of them, or a wrong key or value in one.
        PluginError: An unknown name.
    """
    found: dict[str, tuple[Evaluation, dict[str, Any]]] = {}
    for name in names:
        short = name.rpartition(":")[2]
        kind = evaluation_class(name)
        values = settings.get(short, {})
        if not isinstance(values, Mapping):
            raise ConfigError(f"--set {short}: a table, expected {short}.key=value")
        config: BaseModel = check(kind.Config, values, origin="--set", table=short)
        found[short] = kind(config), config.model_dump(mode="json")
    for table in settings:
        if table not in found:
            raise ConfigError(
                f"--set {table}: not an evaluation that runs, those of --with are "
                f"{', '.join(found)}{did_you_mean(table, found)}"
            )
    return found


def evaluate(
    examinee: Examinee,
    labelled: LabelledSet,
    evaluations: Mapping[str, tuple[Evaluation, dict[str, Any]]],
    *,
    test_split: str,
    batch_size: int,
) -> dict[str, Any] | None:
    """Make features and scores.

    Collective: every rank makes features, rank 0 alone scores.

    Returns:
        The document that `write_scores` keeps; None on the other ranks.

    Raises:
        DataError: The set or one of its images cannot be evaluated on.
    """
    if test_split == "train":
        raise DataError(f"{labelled.name}: test on another split than train")
    known = Classes(num=len(labelled.classes), names=labelled.classes, templates=labelled.templates)
    for evaluation, _ in evaluations.values():
        evaluation.check(examinee.subject, known)
    needs_train = any(evaluation.needs_train for evaluation, _ in evaluations.values())
    wanted = ["train", test_split] if needs_train else [test_split]
    features = {
        split: extract(
            labelled.split(split),
            examinee.encode,
            input_px=examinee.input_px,
            crop_fraction=examinee.crop_fraction,
            batch_size=batch_size,
            device=examinee.subject.device,
            num_threads=max(1, min(8, (os.cpu_count() or 1) // world_size())),
        )
        for split in wanted
    }
    if rank():
        return None
    train, test = features.get("train"), features[test_split]
    num_classes = known.num or 1 + max(int(each.labels.max()) for each in features.values())
    classes = Classes(num=num_classes, names=known.names, templates=known.templates)
    scores = []
    for name, (evaluation, settings) in evaluations.items():
        score = run(name, evaluation, examinee.subject, train=train, test=test, classes=classes)
        scores.append({**asdict(score), "settings": settings})
    seen = set(() if train is None else train.digests)
    return {
        "format_version": FORMAT_VERSION,
        "encoder": dict(examinee.facts),
        "set": {
            "name": labelled.name,
            "test_split": test_split,
            "num_classes": num_classes,
            "train": None if train is None else _counts(train),
            "test": _counts(test),
            "num_test_in_train": sum(each in seen for each in test.digests),
        },
        "scores": scores,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("synth-rep", "torch", "timm", "pillow")},
    }


def _counts(features: Features) -> dict[str, Any]:
    return {
        "num_images": len(features.keys),
        "num_groups": len(set(features.groups)),
        "fingerprint": features.fingerprint(),
    }


def scores_path(examinee: Examinee, labelled: LabelledSet, test_split: str) -> Path | None:
    """Where scores are kept if nothing is said: in the run; nowhere for what is no run."""
    if examinee.run is None:
        return None
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", re.split(r"[/:]", labelled.name)[-1]).strip("-.")
    return examinee.run / "scores" / f"{name or 'set'}-{test_split}.json"


def read_scores(path: Path, *, set_name: str, test_split: str) -> dict[str, Any] | None:
    """The scores that are there, if there are any.

    Raises:
        ConfigError: The file holds something else, or scores of another set.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        about = found["set"]["name"], found["set"]["test_split"]
        _ = [score["name"] for score in found["scores"]], found["encoder"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path}: not a file of scores; give another --out") from exc
    if about != (set_name, test_split):
        raise ConfigError(
            f"{path}: holds scores on {about[0]} ({about[1]}); give another --out for {set_name}"
        )
    return dict(found)


def write_scores(path: Path, document: Mapping[str, Any]) -> None:
    """Keep scores, with those of other evaluations of the same encoder on the same images.

    Raises:
        ConfigError: See `read_scores`; or the file cannot be written.
    """
    about = document["set"]
    kept = read_scores(path, set_name=about["name"], test_split=about["test_split"])
    scores = {score["name"]: score for score in document["scores"]}
    if kept is not None and _same(kept, document):
        scores = {score["name"]: score for score in kept["scores"]} | scores
        if about["train"] is None:  # what was kept was trained on something, which still counts
            facts = {name: kept["set"][name] for name in ("train", "num_test_in_train")}
            document = {**document, "set": {**about, **facts}}
    text = json.dumps({**document, "scores": list(scores.values())}, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{text}\n".encode())
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written ({exc.strerror}); choose --out") from exc


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether one encoder was tested on the same images, and trained on the same if at all."""

    def parts(document: Mapping[str, Any]) -> list[Any]:
        encoder = {key: each for key, each in document["encoder"].items() if key != "name"}
        return [encoder, document["set"]["test"], document["set"]["num_classes"]]

    trains = [document["set"]["train"] for document in (old, new)]
    return parts(old) == parts(new) and (None in trains or trains[0] == trains[1])
