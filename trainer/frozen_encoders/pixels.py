"""No encoder at all: the features of an image are the pixels of its small copy."""

from typing import TYPE_CHECKING

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import redact
from trainer.frozen_encoders import FrozenEncoder

if TYPE_CHECKING:
    import torch

MAX_PIXELS_PX = 256
"""Largest side of the small picture; it gives 196,608 features an image."""


class Pixels:
    """`pixels:PX`, with the side of the picture in pixels. See trainer.frozen_encoders."""

    draws_weights = False

    @staticmethod
    def check(place: str) -> None:
        """See EncoderKind."""
        if not place.isdecimal() or len(place) > 3 or not 1 <= int(place) <= MAX_PIXELS_PX:
            raise ConfigError(
                f"pixels:{redact(place)}: expected pixels:PX with PX from 1 to {MAX_PIXELS_PX}"
            )

    @staticmethod
    def open(place: str, *, name: str, device: "torch.device", seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        return FrozenEncoder(
            name=name,
            encode=lambda images: images.flatten(1).float() / 255,
            input_px=int(place),
            device=str(device),
            facts={"name": name, "kind": "pixels", "input_px": int(place)},
        )
