"""The tower of a run with random weights: it shows what the architecture alone is worth."""

from typing import TYPE_CHECKING

from trainer.frozen_encoders import FrozenEncoder, of_tower
from trainer.models.specs import SPEC, read_description
from trainer.places import run_files

if TYPE_CHECKING:  # the kind is asked whether there is a run before torch is imported
    import torch


class Untrained:
    """`untrained:RUN`. See trainer.frozen_encoders."""

    draws_weights = True

    @staticmethod
    def check(place: str) -> None:
        """See EncoderKind."""
        with run_files(place, option="encoder", only=SPEC) as path:
            read_description(path)

    @staticmethod
    def open(place: str, *, name: str, device: "torch.device", seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        import torch

        from trainer.models.encoder import build_encoder

        with run_files(place, option="encoder", only=SPEC) as path:
            spec = read_description(path).spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Drawn on the CPU and then moved, so that a seed means the same weights on any device.
            tower = build_encoder(spec)
        facts = {"name": name, "kind": "untrained", "seed": seed}
        return of_tower(tower, spec, device=device, facts=facts)
