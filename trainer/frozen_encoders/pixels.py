"""No encoder at all: the features of an image are the pixels of its small copy."""

import torch

from manifests.foundation.errors import ConfigError
from trainer.frozen_encoders import FrozenEncoder

MAX_PIXELS_PX = 256
"""Largest side of the small picture; it gives 196,608 features an image."""


class Pixels:
    """`pixels:PX`, with the side of the picture in pixels. See trainer.frozen_encoders."""

    draws_weights = False

    @staticmethod
    def check(place: str) -> None:
        """Its library, which needs torch, says what is wrong."""

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        if not place.isdecimal() or len(place) > 3 or not 1 <= int(place) <= MAX_PIXELS_PX:
            raise ConfigError(f"{name}: expected pixels:PX with PX from 1 to {MAX_PIXELS_PX}")
        return FrozenEncoder(
            name=name,
            encode=lambda images: images.flatten(1).float() / 255,
            input_px=int(place),
            device=str(device),
            facts={"name": name, "kind": "pixels", "input_px": int(place)},
        )
