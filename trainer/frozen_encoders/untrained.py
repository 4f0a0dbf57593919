"""The tower of a run with random weights: it shows what the architecture alone is worth."""

import torch

from manifests.foundation.files import local_path
from trainer.frozen_encoders import FrozenEncoder, of_tower
from trainer.models.encoder import build_encoder, read_description


class Untrained:
    """`untrained:RUN`. See trainer.frozen_encoders."""

    draws_weights = True

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        spec = read_description(local_path(place, option="encoder")).spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Drawn on the CPU and then moved, so that a seed means the same weights on any device.
            tower = build_encoder(spec)
        facts = {"name": name, "kind": "untrained", "seed": seed}
        return of_tower(tower, spec, device=device, facts=facts)
