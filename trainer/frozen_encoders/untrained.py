"""The tower of a run with random weights: it shows what the architecture alone is worth."""

import torch

from trainer.frozen_encoders import FrozenEncoder, of_tower
from trainer.models.encoder import SPEC, build_encoder, read_description
from trainer.places import run_files


class Untrained:
    """`untrained:RUN`. See trainer.frozen_encoders."""

    draws_weights = True

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        with run_files(place, option="encoder", only=SPEC) as path:
            spec = read_description(path).spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Drawn on the CPU and then moved, so that a seed means the same weights on any device.
            tower = build_encoder(spec)
        facts = {"name": name, "kind": "untrained", "seed": seed}
        return of_tower(tower, spec, device=device, facts=facts)
