"""Encoders as they are evaluated, with weights that no longer change.

This folder holds only kinds of them.

Laws, tested for every entry of the table:

1. An encoder maps uint8 images to one vector of floats each, whatever else is in the batch.
2. Two encoders with the same `facts`, their names apart, give the same features.
3. An encoder that is missing, damaged or not what its description says is refused in one line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import redact
from manifests.foundation.plugins import Entry
from trainer.addresses import resolve

Encode = Callable[[UInt8[Tensor, "images 3 height width"]], Float[Tensor, "images features"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenEncoder:
    """An encoder, and all that an evaluation may ask of it."""

    name: str
    """The address that it was opened by."""
    encode: Encode
    """Called under inference mode with images of `input_px` on `device`."""
    input_px: int
    crop_fraction: float = 1.0
    """The shorter side of an image is resized to input_px / crop_fraction, then cropped."""
    device: str = "cpu"
    """Where the encoder and the classifiers on its features compute."""
    facts: Mapping[str, Any]
    """What identifies it in a file of scores, as JSON: `name`, `kind`, and what the kind needs."""
    run: Path | None = None
    """Folder of the run that exported it, where its scores are kept; None if it has none."""
    embed_texts: Callable[[list[str]], Tensor] | None = None
    """Unit text embeddings [texts, embed_dim], if the encoder was trained with text."""
    embed_features: Callable[[Tensor], Tensor] | None = None
    """Features to unit image embeddings [images, embed_dim], in the space of the texts."""


class EncoderKind(Protocol):
    """See the laws above."""

    draws_weights: ClassVar[bool]
    """Whether `seed` decides the weights; the others refuse a seed."""

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """The encoder at a place.

        Args:
            place: What follows the kind in the address.
            name: The whole address without secrets.
            device: Where the encoder computes.
            seed: Of its weights, if it draws them.

        Raises:
            CheckpointError: No encoder is there, or a broken one.
            ConfigError: The place means nothing to this kind.
        """


FROZEN_ENCODERS: Mapping[str, Entry] = {
    "run": Entry("trainer.frozen_encoders.run:Run", "trainer"),
    "untrained": Entry("trainer.frozen_encoders.untrained:Untrained", "trainer"),
    "pixels": Entry("trainer.frozen_encoders.pixels:Pixels", "trainer"),
}


def open_encoder(address: str, *, device: torch.device, seed: int | None) -> FrozenEncoder:
    """The encoder behind an address.

    Args:
        address: A run folder or its encoder.safetensors, `untrained:RUN`, `pixels:PX`, or
            `package.module:Class:PLACE`.
        device: Where the encoder computes.
        seed: Of the weights of a kind that draws them, 0 if None; refused for any other kind.

    Raises:
        CheckpointError: No encoder is there, or a broken one.
        ConfigError: The address means nothing, or no weights are drawn with the seed.
    """
    kind, place = resolve("encoder", FROZEN_ENCODERS, address, EncoderKind, default="run")
    if seed is not None and not kind.draws_weights:
        raise ConfigError(f"--seed: only untrained:RUN draws weights, {address} has its own")
    encoder: FrozenEncoder = kind.open(place, name=redact(address), device=device, seed=seed or 0)
    return encoder
