"""Both towers of a run as a folder that `open_clip.create_model_and_transforms` opens."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from open_clip.model import CustomTextCLIP
from torch import nn

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import write_whole
from manifests.foundation.messages import one_line
from trainer.model_card import model_card
from trainer.models.encoder import is_stock, stock_copy
from trainer.models.specs import EncoderSpec
from trainer.models.text import MAX_LOG_SCALE, ImageText, require_image_text
from trainer.models.weights import write_weights
from trainer.origin import Origin

CONFIG, WEIGHTS, CARD = "open_clip_config.json", "open_clip_model.safetensors", "README.md"

_USAGE = """
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
"""

_NOTES = (
    'From the Hub the name is `"hf-hub:OWNER/NAME"`.',
    "The transform of open_clip resizes the shorter side to the size of the tower and cuts out the "
    "middle; the evaluation of the run first resized it to that size divided by the part above.",
)


class OpenClipPair:
    """A timm tower with a linear projection, the text tower, and the scale of their cosines."""

    parts: ClassVar[tuple[str, ...]] = ("image", "text")
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, CONFIG, CARD)

    def check(self, parts: Mapping[str, Any], spec: EncoderSpec) -> None:
        if not is_stock(spec):
            raise ConfigError(
                f"export open-clip: {spec.model} is a tower of this project, which open_clip "
                "cannot build; train a tower of timm"
            )
        require_image_text(parts["text"], export="open-clip")
        _pair(parts["image"], parts["text"], spec)

    def write(
        self, folder: Path, parts: Mapping[str, Any], spec: EncoderSpec, origin: Origin
    ) -> None:
        text: ImageText = parts["text"]
        pair = _pair(parts["image"], text, spec)
        card = model_card(
            origin,
            spec,
            library="open_clip",
            task="zero-shot-image-classification",
            usage=_USAGE,
            notes=_NOTES,
        )
        config = {"model_cfg": _model(spec, text), "preprocess_cfg": _preprocessing(spec)}
        write_weights(folder / WEIGHTS, pair)
        write_whole(folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())
        write_whole(folder / CARD, card.encode())


def _pair(image: nn.Module, text: ImageText, spec: EncoderSpec) -> nn.Module:
    """The pair as open_clip builds it, with the weights of a run.

    Raises:
        ConfigError: open_clip builds another image tower. It passes no arguments to timm.
    """
    tower = stock_copy(image, spec)
    model = {name: value for name, value in _model(spec, text).items() if name != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        pair: nn.Module = CustomTextCLIP(**model).eval()
    probe = torch.rand(
        1, 3, spec.input_px, spec.input_px, generator=torch.Generator().manual_seed(0)
    )
    weights = {
        **{f"visual.trunk.{name}": value for name, value in tower.state_dict().items()},
        **{f"text.{name}": value for name, value in text.text.state_dict().items()},
        "visual.head.proj.weight": text.image_projection.weight,
        "logit_scale": text.log_scale.clamp(max=MAX_LOG_SCALE),
    }
    try:
        pair.load_state_dict(weights, strict=True)
        with torch.no_grad():
            # Arguments may also change what a tower computes from the same weights.
            torch.testing.assert_close(pair.get_submodule("visual.trunk")(probe), tower(probe))
    except (AssertionError, RuntimeError) as exc:
        raise ConfigError(
            f"export open-clip: open_clip builds {spec.model} without arguments, which is not the "
            f"tower that model.args {spec.args} make ({one_line(exc)}); export it as timm-hub, or "
            "train without model.args"
        ) from exc
    return pair


def _model(spec: EncoderSpec, text: ImageText) -> dict[str, Any]:
    """The table `model_cfg`. Source: open_clip, model.py, `CLIPVisionCfg` and `CLIPTextCfg`."""
    return {
        "embed_dim": text.spec.embed_dim,
        "quick_gelu": True,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": spec.model,
            "timm_pool": "",  # that of the tower
            "timm_proj": "linear",
            "timm_proj_bias": False,
            "image_size": spec.input_px,
        },
        "text_cfg": {
            "context_length": text.spec.context_length,
            "vocab_size": text.text.vocab_size,
            "width": text.spec.width,
            "heads": text.spec.heads,
            "layers": text.spec.layers,
        },
    }


def _preprocessing(spec: EncoderSpec) -> dict[str, Any]:
    return {
        "size": spec.input_px,
        "mode": "RGB",
        "mean": list(spec.mean),
        "std": list(spec.std),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
