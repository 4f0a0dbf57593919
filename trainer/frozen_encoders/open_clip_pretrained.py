"""Pretrained models of open_clip: image features, and texts in the same space."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import open_clip
import torch
from torch import nn
from torch.nn import functional as F

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import has_secrets, one_line
from manifests.foundation.plugins import did_you_mean
from trainer.errors import CheckpointError
from trainer.frozen_encoders import FrozenEncoder, Resampling, of_tower
from trainer.models.specs import EncoderSpec
from trainer.models.weights import state_sha256

FOLDERS = ("hf-hub:", "local-dir:")
"""What a name begins with whose weights lie beside its configuration."""


class OpenClip:
    """`open_clip:NAME@PRETRAINED`, `open_clip:hf-hub:OWNER/MODEL` or `open_clip:local-dir:FOLDER`.

    PRETRAINED is a tag, such as `openai`, or a file of weights. Features are those of
    `encode_image`, in the space of the texts, before they are normalised. CLIP's own linear probes
    take the features before the last projection, so their figures are not those of this kind. A tag
    whose weights were trained with QuickGELU gets it, whatever the name says. What a hub, a folder
    or a file holds is read without running code. See trainer.frozen_encoders.
    """

    draws_weights = False

    @staticmethod
    def check(place: str) -> None:
        """Its library, which needs torch, says what is wrong."""

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        model, at, pretrained = place.partition("@")
        if place.startswith(FOLDERS):
            model, at, pretrained = place, "@", ""
        if "://" in place or has_secrets(place) or not at:
            raise ConfigError(
                f"encoder {name}: expected open_clip:NAME@PRETRAINED, such as "
                "open_clip:ViT-B-32@openai, or open_clip:local-dir:FOLDER"
            )
        try:
            with torch.random.fork_rng(devices=[]), _quiet():
                clip = _create(model, pretrained)
                tokenize = open_clip.get_tokenizer(model)
            spec, how = _configuration(clip, model)
            facts = {
                "name": name,
                "kind": "open_clip",
                "sha256": state_sha256(clip),
                "config": open_clip.get_model_config(model),
                "activation": _activation(clip),
                **how,
            }
        except Exception as exc:  # hub, network, file and model each have errors of their own
            raise CheckpointError(
                f"encoder {name}: open_clip {open_clip.__version__} has no such pretrained model "
                f"or cannot load it here ({one_line(exc)[:300]})"
            ) from exc
        clip = clip.to(device)

        def embed_texts(texts: list[str]) -> torch.Tensor:
            embedded = clip.encode_text(tokenize(texts).to(device))
            return F.normalize(embedded, dim=-1)

        return replace(
            of_tower(_ImageTower(clip), spec, device=device, facts=facts),
            always_resized=True,
            embed_texts=embed_texts,
            embed_features=lambda features: F.normalize(features, dim=-1),
            **how,
        )


class _ImageTower(nn.Module):
    """The image half of a model as a tower."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.clip.encode_image(images, normalize=False)
        return features


def _create(model: str, pretrained: str) -> Any:
    """The model with its weights; unlike open_clip, it refuses a folder or a tag without any."""
    tag: Mapping[str, Any] = {}
    if not model.startswith(FOLDERS):
        if model not in open_clip.list_models():
            raise ValueError(f"no model {model!r}{did_you_mean(model, open_clip.list_models())}")
        tag = open_clip.get_pretrained_cfg(model, pretrained)
        if not tag and not Path(pretrained).is_file():
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
            raise ValueError(f"no file and no tag of {model} is {pretrained}; its tags: {tags}")
    # open_clip warns of weights that were trained with another activation, and computes with the
    # wrong one.
    forced = {"force_quick_gelu": True} if tag.get("quick_gelu") else {}
    return open_clip.create_model(
        model, pretrained=pretrained or None, require_pretrained=True, **forced
    )


def _configuration(clip: Any, model: str) -> tuple[EncoderSpec, dict[str, Any]]:
    """What the model's own configuration says of its images: the tower's, and how it is cropped."""
    data = open_clip.get_model_preprocess_cfg(clip)
    sizes = data["size"] if isinstance(data["size"], (list, tuple)) else [data["size"]]
    if len(set(sizes)) != 1:
        raise ValueError(f"takes images of {sizes}, expected squares")
    if data["interpolation"] not in get_args(Resampling):
        raise ValueError(f"resizes by {data['interpolation']}, which is none of {Resampling}")
    if data["resize_mode"] not in ("shortest", "squash"):
        raise ValueError(f"resizes by {data['resize_mode']}, expected shortest or squash")
    spec = EncoderSpec(
        model=model.partition(":")[0],  # a folder is known by its weights, not by its name
        input_px=sizes[0],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        crop_fraction=1.0,
    )
    return spec, {"resampling": data["interpolation"], "squash": data["resize_mode"] == "squash"}


def _activation(clip: nn.Module) -> str:
    """Which GELU the model has: the name does not always say, and it is no weight."""
    kinds = {type(module).__name__ for module in clip.modules()}
    return "quick_gelu" if "QuickGELU" in kinds else "gelu"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip from writing to the root logger, and from adding a handler to it."""
    root, disabled = logging.getLogger(), logging.root.manager.disable
    handlers = list(root.handlers)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
