"""Pretrained models of timm, with the pixels and the features that timm itself gives."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import load_model_config_from_hf
from torch import nn

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import read_regular
from manifests.foundation.messages import has_secrets, one_line
from trainer.errors import CheckpointError
from trainer.frozen_encoders import FrozenEncoder, Resampling, of_tower
from trainer.models.specs import EncoderSpec
from trainer.models.weights import state_sha256

MAX_CONFIG_BYTES = 1 << 20
"""Largest `config.json` of a folder that is read."""


class TimmPretrained:
    """`timm:NAME`, `timm:hf-hub:OWNER/MODEL` or `timm:local-dir:FOLDER`.

    NAME is a pretrained name of timm, such as `vit_base_patch16_224.mae`. The classifier is left
    out: features are those of `timm.create_model(NAME, pretrained=True, num_classes=0)`. Size,
    colours, crop and filter are those of the model's own configuration. What a hub or a folder
    holds is read without running code. See trainer.frozen_encoders.
    """

    draws_weights = False

    @staticmethod
    def check(place: str) -> None:
        """Its library, which needs torch, says what is wrong."""

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        """See EncoderKind."""
        if "://" in place or has_secrets(place):
            raise ConfigError(f"encoder {name}: is a URL, expected timm:NAME of a pretrained model")
        try:
            tower, args = _create(place)
            spec, how = _configuration(tower, args)
        except Exception as exc:  # hub, network, file and model each have errors of their own
            raise CheckpointError(
                f"encoder {name}: timm {timm.__version__} has no such pretrained model or cannot "
                f"load it here ({one_line(exc)[:300]})"
            ) from exc
        facts = {"name": name, "kind": "timm", "sha256": state_sha256(tower), **how}
        opened = of_tower(tower, spec, device=device, facts=facts)
        return replace(opened, always_resized=True, **how)


def _create(place: str) -> tuple[nn.Module, dict[str, Any]]:
    """The model without its classifier, and the arguments that its configuration adds."""
    source, colon, where = place.partition(":")
    args: dict[str, Any] | None = None
    if colon and source == "local-dir":
        config = read_regular(Path(where) / "config.json", max_bytes=MAX_CONFIG_BYTES)
        args = json.loads(config).get("model_args")
    elif colon:
        args = load_model_config_from_hf(where)[2]
    else:
        known = timm.get_pretrained_cfg(place)
        # Some models of timm would be made with random weights, and only the log would say so.
        if known is None or not known.has_weights:
            raise ValueError("timm.list_pretrained() lists the names that have weights")
    # Without a classifier timm also accepts weights that lack other tensors, and leaves these as
    # they were drawn. What differs between two seeds was drawn.
    towers = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.manual_seed(seed)
            towers.append(timm.create_model(place, pretrained=True, num_classes=0))
    states = [tower.state_dict() for tower in towers]
    for key, value in states[0].items():
        if not torch.equal(value, states[1][key]):
            raise ValueError(f"the weights lack {key}, which timm would draw at random")
    return towers[0], dict(args or {})


def _configuration(tower: Any, args: dict[str, Any]) -> tuple[EncoderSpec, dict[str, Any]]:
    """What the model's own configuration says of its images: the tower's, and how it is cropped."""
    data = resolve_model_data_config(tower)
    channels, height, width = data["input_size"]
    if channels != 3 or height != width:
        raise ValueError(f"takes images of {channels} x {height} x {width}, expected 3 x n x n")
    if data["interpolation"] not in get_args(Resampling):
        raise ValueError(f"resizes by {data['interpolation']}, which is none of {Resampling}")
    if data["crop_mode"] not in ("center", "squash"):
        raise ValueError(f"crops by {data['crop_mode']}, expected center or squash")
    spec = EncoderSpec(
        model=tower.pretrained_cfg["architecture"],
        args=args,
        input_px=height,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        crop_fraction=data["crop_pct"],
    )
    return spec, {"resampling": data["interpolation"], "squash": data["crop_mode"] == "squash"}
