"""The encoder of a run: the one that it exported, or would export after a checkpoint's steps."""

from pathlib import Path
from typing import Any

from torch import nn

from manifests.foundation.messages import one_line, without_folders
from manifests.foundation.settings import check
from trainer.checkpointing import load_checkpoint
from trainer.errors import CheckpointError
from trainer.models.encoder import build_encoder, load_encoder
from trainer.models.specs import EncoderDescription, EncoderSpec, read_description
from trainer.models.weights import state_sha256
from trainer.origin import Origin
from trainer.runs import FILE, read_run

_TRAINED = "encoder."
"""What the names of the trained tower's tensors begin with in a checkpoint."""


def load_kept(path: Path) -> tuple[nn.Module, EncoderDescription]:
    """An encoder in evaluation mode, and what is known of it.

    Args:
        path: Folder of a finished run, the `encoder.safetensors` in one, or a file of the
            `checkpoints` of a run, whose `run.json` says how the tower is built.

    Raises:
        CheckpointError: A file is missing or damaged, or one is not of the other.
    """
    if path.suffix == ".pt":
        return _of_checkpoint(path)
    tower, _ = load_encoder(path)
    return tower, read_description(path)


def _of_checkpoint(path: Path) -> tuple[nn.Module, EncoderDescription]:
    document = load_checkpoint(path)
    run = path.resolve().parent.parent
    facts = read_run(run)
    model = facts["identity"].get("model")
    spec = check(EncoderSpec, model, origin=str(run / FILE), table="model")
    tower = build_encoder(spec)
    place = document.get("tower", _TRAINED)  # a checkpoint from before this key holds no place
    tensors = {
        key.removeprefix(place): value
        for key, value in document["learner"].items()
        if key.startswith(place)
    }
    try:
        tower.load_state_dict(tensors, strict=True)
    except RuntimeError as exc:
        raise CheckpointError(
            f"{path}: does not hold the tower that {run / FILE} describes ({one_line(exc)})"
        ) from exc
    made = _made(facts, document["step"], where=str(run / FILE))
    return tower.eval(), EncoderDescription(spec=spec, sha256=state_sha256(tower), made=made)


def _made(facts: dict[str, Any], step: int, *, where: str) -> dict[str, Any]:
    """Where the encoder comes from, as `encoder.json` would say it."""
    try:
        identity = facts["identity"]
        return Origin(
            objective=str(identity["objective"]["name"]),
            steps=step,
            url=without_folders(str(facts["sessions"][-1]["set"]["url"])),
            root_sha256=str(identity["set"]["root_sha256"]),
        ).to_json()
    except (LookupError, TypeError) as exc:
        raise CheckpointError(
            f"{where}: does not say how the run was made ({exc!r}); restore it from a copy"
        ) from exc
