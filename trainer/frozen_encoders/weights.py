"""Weights that somebody else has trained, in a tower of timm."""

import hashlib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import local_path, require_regular
from manifests.foundation.messages import one_line
from trainer.errors import CheckpointError
from trainer.frozen_encoders import FrozenEncoder, of_tower
from trainer.models.encoder import build_encoder
from trainer.models.specs import EncoderSpec

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


class Weights:
    """`weights:MODEL@FILE`, or `weights:MODEL@FILE#PLACE`. See trainer.frozen_encoders.

    MODEL is a name of timm. The file may hold more than a tower: what lies before the names of its
    tensors is found by comparing them with those of the model, such as `module.visual.` in the
    files of StableRep. Every tensor of the tower has to be there in its shape; heads are left out.
    PLACE tells two towers of one file apart, such as the student and the teacher of DINO.
    """

    draws_weights = False

    @staticmethod
    def check(place: str) -> None:
        """Only `open`, which needs torch, knows whether model and file fit together."""

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        model, at, rest = place.partition("@")
        if not at or "://" in place:
            path = local_path(place, option="encoder")
            raise ConfigError(f"encoder {path}: expected weights:MODEL@FILE, MODEL being of timm")
        file, _, wanted = rest.partition("#")
        path = local_path(file, option="encoder")
        parts = _read(path)
        spec = _spec(model)
        with torch.random.fork_rng(devices=[]):
            tower = build_encoder(spec)
        location = _place(tower.state_dict(), parts, path, model, wanted)
        missing = tower.load_state_dict(_below(parts, location), strict=False).missing_keys
        assert all(key.endswith("num_batches_tracked") for key in missing)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        facts = {"name": name, "kind": "weights", "sha256": digest, "place": location}
        return of_tower(tower, spec, device=device, facts=facts)


def _spec(model: str) -> EncoderSpec:
    """The tower of a name of timm, for images of the size that timm has for it.

    Colours are those of ImageNet, as in all files that are named above; timm has others for some
    models, which belong to its own weights.
    """
    cfg = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    return EncoderSpec(model=model, **({"input_px": cfg.input_size[-1]} if cfg else {}))


def _read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name; those of a dictionary inside it have its name and a slash.

    Raises:
        CheckpointError: It cannot be read, or only by running what is in it.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: weights are read from {', '.join(SUFFIXES)}")
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; give weights:MODEL@FILE")
    try:
        require_regular(path)
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        # Settings of argparse lie in many files beside the weights; they are texts and numbers.
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # each format has errors of its own
        raise CheckpointError(
            f"{path}: no weights that can be read without running code ({one_line(exc)[:200]})"
        ) from exc
    tensors: dict[str, Tensor] = {}
    for name, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Tensor):
            tensors[str(name)] = value
        elif isinstance(value, Mapping):
            inside = {f"{name}/{key}": item for key, item in value.items()}
            tensors |= {key: item for key, item in inside.items() if isinstance(item, Tensor)}
    return tensors


def _place(
    tower: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path, model: str, wanted: str
) -> str:
    """What lies before the names of the tower's tensors in the file.

    Raises:
        CheckpointError: Nothing fits, or two places do and none of them is wanted.
    """
    first = next(iter(tower))
    places = [
        key.removesuffix(first)
        for key in tensors
        if key.endswith(first) and (key == first or key[-len(first) - 1] in "./")
    ]
    problems = {place: _problem(tower, _below(tensors, place)) for place in places}
    right = [place for place, problem in problems.items() if not problem]
    if wanted in right:
        return wanted
    if len(right) == 1 and not wanted:
        return right[0]
    if right:
        choices = ", ".join(f"#{place}" for place in right)
        raise CheckpointError(f"{path}: holds several towers; add one of {choices} to the address")
    reason = next(iter(problems.values()), f"it has no tensor whose name ends in {first}")
    raise CheckpointError(f"{path}: not the weights of {model}: {reason}")


def _below(tensors: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(place): value for key, value in tensors.items() if key.startswith(place)
    }


def _problem(tower: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """The first tensor of the tower that is missing or of another shape; empty if there is none."""
    for name, expected in tower.items():
        actual = tensors.get(name)
        if actual is None:
            if not name.endswith("num_batches_tracked"):  # files from before torch 0.4.1 lack it
                return f"{name} is missing"
        elif actual.shape != expected.shape:
            return f"{name} has shape {list(actual.shape)}, expected {list(expected.shape)}"
    return ""
