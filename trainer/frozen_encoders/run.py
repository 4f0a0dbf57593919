"""The encoder that a finished run exported, with its text half if the run has one."""

from dataclasses import replace

import torch

from manifests.foundation.files import local_path
from trainer.frozen_encoders import FrozenEncoder, of_tower
from trainer.models.encoder import load_encoder, read_description
from trainer.models.text import load_text


class Run:
    """A run folder, or the encoder.safetensors of one. See trainer.frozen_encoders."""

    draws_weights = False

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        path = local_path(place, option="encoder")
        is_run = path.is_dir()  # scores are kept in runs; weights may lie in any folder
        # A tower draws random weights when it is built, before those of the file replace them: the
        # global generator of the caller is to stay as it is.
        with torch.random.fork_rng(devices=[]):
            tower, spec = load_encoder(path)
            text = load_text(path if is_run else path.parent)
        text = None if text is None else text.to(device)
        facts = {"name": name, "kind": "trained", "sha256": read_description(path).sha256}
        return replace(
            of_tower(tower, spec, device=device, facts=facts),
            run=path if is_run else None,
            embed_texts=None if text is None else text.embed_texts,
            embed_features=None if text is None else text.embed_features,
        )
