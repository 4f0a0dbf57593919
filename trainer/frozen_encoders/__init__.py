"""Frozen encoders: what an evaluation measures, with weights that no longer change.

This folder holds only kinds of encoders.

Laws, tested for every entry of the table:

1. An encoder maps uint8 images to one vector of floats each, whatever else is in the batch.
2. Two encoders with the same `facts`, their names apart, give the same features.
3. An encoder that is missing, damaged or not what its description says is refused in one line.
"""

from __future__ import annotations  # shapes are read by people here: kinds need no torch

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import Field

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import redact
from manifests.foundation.plugins import Entry
from manifests.foundation.settings import Table
from trainer.addresses import resolve
from trainer.config import Precision
from trainer.models.specs import EncoderSpec

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, UInt8
    from torch import Tensor, nn

Encode = Callable[["UInt8[Tensor, 'images 3 height width']"], "Float[Tensor, 'images features']"]
"""Images with pixels from 0 to 255 to their features."""
HeldAs = Literal["float32", "float16", "bfloat16"]
Resampling = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenEncoder:
    """An encoder, and all that an evaluation may ask of it."""

    name: str
    """The address that it was opened by."""
    encode: Encode
    """Called under inference mode with images of `input_px` on `device`."""
    input_px: int
    """Side of the square images that it takes."""
    crop_fraction: float = 1.0
    """The shorter side of an image is resized to input_px / crop_fraction; then the middle square
    of `input_px` is cut out. Example: 224 and 0.875 resize to 256."""
    resampling: Resampling = "bicubic"
    """The filter of Pillow that an image is resized by."""
    squash: bool = False
    """Whether both sides of an image become input_px / crop_fraction, whatever its shape."""
    always_resized: bool = False
    """Whether an image that is `input_px` square already is resized and cut like any other, as timm
    and open_clip do it; otherwise it is taken as it is."""
    held_as: HeldAs = "float32"
    """What its features are rounded to and held as; see `open_encoder`."""
    device: str = "cpu"
    """Where the encoder and the classifiers on its features compute."""
    facts: Mapping[str, Any]
    """What identifies it in a file of scores, as JSON: `name`, `kind`, and what else decides its
    features, such as the SHA-256 of its weights. Scores of equal facts, names apart, are kept
    together."""
    run: Path | None = None
    """Folder of the run that exported it, where its scores are kept; None if it has none."""
    embed_texts: Callable[[list[str]], Tensor] | None = None
    """Texts to unit embeddings [texts, embed_dim]; None if it was not trained with texts."""
    embed_features: Callable[[Tensor], Tensor] | None = None
    """Features to unit embeddings [images, embed_dim], in the space of the texts; or None."""


def of_tower(
    tower: nn.Module, spec: EncoderSpec, *, device: torch.device, facts: Mapping[str, Any]
) -> FrozenEncoder:
    """The encoder that a tower of timm is, on a device.

    Args:
        facts: Those of `FrozenEncoder`, without the description of the tower.
    """
    from trainer.models.encoder import normalize

    tower = tower.eval().to(device)
    return FrozenEncoder(
        name=facts["name"],
        encode=lambda images: tower(normalize(images, spec)),
        input_px=spec.input_px,
        crop_fraction=spec.crop_fraction,
        device=str(device),
        facts={**facts, "spec": spec.model_dump(mode="json")},
    )


class Crop(Table):
    """How images are resized and cropped where an encoder should not have them as it says itself.

    Tables of transfer resize the shorter side to the encoder's own size (`fraction = 1`), ImageNet
    is resized to 256 for 224 (`fraction = 0.875`).
    """

    fraction: float | None = Field(default=None, gt=0, le=1)
    """FrozenEncoder.crop_fraction."""
    resampling: Resampling | None = None
    """FrozenEncoder.resampling."""
    squash: bool | None = None
    """FrozenEncoder.squash."""
    always_resized: bool | None = None
    """FrozenEncoder.always_resized."""


def cropped(encoder: FrozenEncoder, crop: Crop) -> FrozenEncoder:
    """The encoder with another crop, which its facts name."""
    chosen = crop.model_dump(exclude_none=True)
    if not chosen:
        return encoder
    fields = {"crop_fraction" if key == "fraction" else key: chosen[key] for key in chosen}
    return replace(encoder, facts={**encoder.facts, "crop": chosen}, **fields)


class EncoderKind(Protocol):
    """See the laws above."""

    draws_weights: ClassVar[bool]
    """Whether `seed` decides the weights. A seed for any other kind is refused."""

    @staticmethod
    def check(place: str) -> None:
        """Refuse what can be seen to be wrong without torch; raises what `open` raises."""

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """The encoder at a place.

        Args:
            place: What follows the kind in the address.
            name: The whole address without secrets.
            device: Where the encoder computes.
            seed: Decides the weights of a kind that draws them.

        Raises:
            CheckpointError: There is no encoder at the place, or it is damaged.
            ConfigError: The place means nothing to this kind.
        """


FROZEN_ENCODERS: Mapping[str, Entry] = {
    "run": Entry("trainer.frozen_encoders.run:Run", "trainer"),
    "untrained": Entry("trainer.frozen_encoders.untrained:Untrained", "trainer"),
    "weights": Entry("trainer.frozen_encoders.weights:Weights", "trainer"),
    "timm": Entry("trainer.frozen_encoders.timm_pretrained:TimmPretrained", "trainer"),
    "open_clip": Entry("trainer.frozen_encoders.open_clip_pretrained:OpenClip", "trainer"),
    "pixels": Entry("trainer.frozen_encoders.pixels:Pixels", "trainer"),
}


def require_encoder(address: str, *, seed: int | None) -> None:
    """Refuse, before torch is imported, an address at which no encoder can be.

    Args:
        address: As `open_encoder` takes it.
        seed: As `open_encoder` takes it.

    Raises:
        CheckpointError: There is no encoder at the address, or it is damaged.
        ConfigError: The address means nothing, or the encoder draws no weights that a seed could
            decide.
    """
    _kind(address, seed=seed)


def _kind(address: str, *, seed: int | None) -> tuple[type[EncoderKind], str]:
    kind, place = resolve("encoder", FROZEN_ENCODERS, address, EncoderKind, default="run")
    if seed is not None and not kind.draws_weights:
        raise ConfigError(f"--seed: only untrained:RUN draws weights, {address} has its own")
    kind.check(place)
    return kind, place


def open_encoder(
    address: str,
    *,
    device: torch.device,
    seed: int | None,
    held_as: HeldAs = "float32",
    precision: Precision = "fp32",
) -> FrozenEncoder:
    """The encoder behind an address.

    Args:
        address: A run folder, its encoder.safetensors or a file of its checkpoints,
            `untrained:RUN`, `weights:MODEL@FILE`, `timm:NAME`, `open_clip:NAME@PRETRAINED`,
            `pixels:PX`, or `package.module:Class:PLACE`.
        device: Where the encoder computes.
        seed: Decides the weights of a kind that draws them; None is 0. Refused for other kinds.
        held_as: What features are rounded to. Half precision halves the memory of a large set; it
            is in the facts, because it changes the features.
        precision: What its towers compute in; in the facts likewise, unless it is `fp32`.

    Raises:
        CheckpointError: There is no encoder at the address, or it is damaged.
        ConfigError: The address means nothing, or the encoder draws no weights that a seed could
            decide.
    """
    from trainer.precision import computed_in

    kind, place = _kind(address, seed=seed)
    encoder: FrozenEncoder = kind.open(place, name=redact(address), device=device, seed=seed or 0)
    texts = encoder.embed_texts
    changes = {
        **({"held_as": held_as} if held_as != "float32" else {}),
        **({"precision": precision} if precision != "fp32" else {}),
    }
    return replace(
        encoder,
        encode=computed_in(precision, device, encoder.encode),
        embed_texts=None if texts is None else computed_in(precision, device, texts),
        held_as=held_as,
        facts={**encoder.facts, **changes},
    )
