"""The encoder that a run exported, with its text half, or the tower in one of its checkpoints."""

from dataclasses import replace
from typing import TYPE_CHECKING

from trainer.frozen_encoders import FrozenEncoder, of_tower
from trainer.models.specs import SPEC, read_description
from trainer.places import is_remote, run_files

if TYPE_CHECKING:  # the kind is asked whether there is a run before torch is imported
    import torch


class Run:
    """A run, the encoder.safetensors of one, or a file of its `checkpoints`; paths or URLs.

    A checkpoint has no text half here. See trainer.frozen_encoders.
    """

    draws_weights = False

    @staticmethod
    def check(place: str) -> None:
        """See EncoderKind."""
        with run_files(place, option="encoder", only=SPEC) as path:
            if path.suffix != ".pt":
                read_description(path)

    @staticmethod
    def open(place: str, *, name: str, device: "torch.device", seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        import torch

        from trainer.kept_encoders import load_kept
        from trainer.models.text import load_text

        # A tower draws random weights when it is built, before those of the file replace them: the
        # global generator of the caller is to stay as it is.
        with run_files(place, option="encoder") as path, torch.random.fork_rng(devices=[]):
            is_checkpoint = path.suffix == ".pt"
            # Scores are kept in the folders of runs; weights may lie in any folder.
            is_run = path.is_dir() and not is_remote(place)
            tower, kept = load_kept(path)
            text = None
            if not is_checkpoint:
                text = load_text(path if path.is_dir() else path.parent)
        text = None if text is None else text.to(device)
        kind = "checkpoint" if is_checkpoint else "trained"
        facts = {"name": name, "kind": kind, "sha256": kept.sha256}
        facts |= {"step": kept.made["steps"]} if is_checkpoint else {}
        return replace(
            of_tower(tower, kept.spec, device=device, facts=facts),
            run=path if is_run else None,
            embed_texts=None if text is None else text.embed_texts,
            embed_features=None if text is None else text.embed_features,
        )
