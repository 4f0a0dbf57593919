"""Tiny models as timm and open_clip keep them: a folder with a configuration and weights."""

import json
from pathlib import Path
from typing import Any

import open_clip
import timm
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import nn

CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}
"""A model of open_clip with 0.4 million weights, nearly all of them of its words."""


def make_timm(folder: Path, **config: Any) -> nn.Module:
    """A model of timm, whose configuration has other values for the keys that are given."""
    model: nn.Module = timm.create_model("test_vit", num_classes=3)
    model.pretrained_cfg |= config
    save_for_hf(model, folder, safe_serialization=True)
    return model


def make_open_clip(folder: Path, **preprocess: Any) -> nn.Module:
    """A model of open_clip, which takes its images as `preprocess_cfg` says."""
    folder.mkdir(parents=True)
    config = {"model_cfg": CLIP_CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model: nn.Module = open_clip.CLIP(**CLIP_CONFIG)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return model
