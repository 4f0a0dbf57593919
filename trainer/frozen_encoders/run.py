"""The encoder that a run exported, with its text half, or the tower in one of its checkpoints."""

from dataclasses import replace
from pathlib import Path

import torch

from manifests.foundation.messages import one_line
from manifests.foundation.settings import check
from trainer.checkpointing import load_checkpoint
from trainer.errors import CheckpointError
from trainer.frozen_encoders import FrozenEncoder, of_tower
from trainer.models.encoder import EncoderSpec, build_encoder, load_encoder, read_description
from trainer.models.text import load_text
from trainer.models.weights import state_sha256
from trainer.places import is_remote, run_files
from trainer.runs import FILE, read_run

_TRAINED = "encoder."
"""What the names of the trained tower's tensors begin with in a checkpoint."""


class Run:
    """A run, the encoder.safetensors of one, or a file of its `checkpoints`; paths or URLs.

    A checkpoint has no text half here. See trainer.frozen_encoders.
    """

    draws_weights = False

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        # A tower draws random weights when it is built, before those of the file replace them: the
        # global generator of the caller is to stay as it is.
        with run_files(place, option="encoder") as path, torch.random.fork_rng(devices=[]):
            if path.suffix == ".pt":
                return _of_checkpoint(path, name=name, device=device)
            # Scores are kept in the folders of runs; weights may lie in any folder.
            is_run = path.is_dir() and not is_remote(place)
            tower, spec = load_encoder(path)
            text = load_text(path if path.is_dir() else path.parent)
            sha256 = read_description(path).sha256
        text = None if text is None else text.to(device)
        facts = {"name": name, "kind": "trained", "sha256": sha256}
        return replace(
            of_tower(tower, spec, device=device, facts=facts),
            run=path if is_run else None,
            embed_texts=None if text is None else text.embed_texts,
            embed_features=None if text is None else text.embed_features,
        )


def _of_checkpoint(path: Path, *, name: str, device: torch.device) -> FrozenEncoder:
    """The tower that the run would export after the steps of a checkpoint, such as a teacher.

    `run.json` above the checkpoint says how it is built.
    """
    document = load_checkpoint(path)
    run = path.resolve().parent.parent
    model = read_run(run)["identity"].get("model")
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
    facts = {"name": name, "kind": "checkpoint", "sha256": state_sha256(tower)}
    return of_tower(tower, spec, device=device, facts=facts | {"step": document["step"]})
