"""The image tower as a folder of the Hugging Face Hub, which `timm.create_model` opens."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import write_whole
from trainer.model_card import model_card
from trainer.models.encoder import EncoderSpec, is_stock, num_features, stock_copy
from trainer.models.weights import write_weights
from trainer.origin import Origin

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"

_USAGE = """
import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=0).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
"""

_NOTES = (
    'From the Hub the name is `"hf-hub:OWNER/NAME"`. With `num_classes=10` timm adds a classifier '
    "that is not trained yet.",
)


class TimmHub:
    """`config.json`, `model.safetensors` and a card, as `timm.models.save_for_hf` lays them out."""

    parts: ClassVar[tuple[str, ...]] = ("image",)
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, CONFIG, CARD)

    def check(self, parts: Mapping[str, Any], spec: EncoderSpec) -> None:
        if not is_stock(spec):
            raise ConfigError(
                f"export timm-hub: {spec.model} is a tower of this project, which timm alone "
                "cannot build; export it as onnx, or train a tower of timm"
            )

    def write(
        self, folder: Path, parts: Mapping[str, Any], spec: EncoderSpec, origin: Origin
    ) -> None:
        tower = stock_copy(parts["image"], spec)
        card = model_card(
            origin,
            spec,
            library="timm",
            task="image-feature-extraction",
            usage=_USAGE,
            notes=_NOTES,
        )
        write_weights(folder / WEIGHTS, tower)
        write_whole(folder / CONFIG, f"{json.dumps(_config(tower, spec), indent=2)}\n".encode())
        write_whole(folder / CARD, card.encode())


def _config(tower: Any, spec: EncoderSpec) -> dict[str, Any]:
    """The content of `config.json`.

    Source: timm, models/_hub.py, `save_config_for_hf` and `_parse_model_cfg`.
    """
    stock = tower.pretrained_cfg
    dynamic = spec.args.get("dynamic_img_size", False)
    return {
        "architecture": spec.model,
        "num_classes": 0,
        "num_features": num_features(tower, spec),
        "model_args": spec.args,
        "pretrained_cfg": {
            "input_size": [3, spec.input_px, spec.input_px],
            # Makes timm pass the size to the tower, which would be wrong where it takes any.
            "fixed_input_size": bool(stock.get("fixed_input_size")) and not dynamic,
            "interpolation": "bicubic",
            "crop_pct": spec.crop_fraction,
            "crop_mode": "center",
            "mean": list(spec.mean),
            "std": list(spec.std),
            "num_classes": 0,
            "pool_size": None,
            # Names of layers that timm leaves out when a user changes classes or colours.
            "first_conv": stock.get("first_conv"),
            "classifier": stock.get("classifier"),
        },
    }
