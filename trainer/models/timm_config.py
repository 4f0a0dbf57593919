"""`config.json`, by which timm opens a tower from a folder or from the Hub."""

import json
from typing import Any

from torch import nn

from trainer.models.encoder import num_features
from trainer.models.specs import EncoderSpec

FILE = "config.json"


def config_bytes(tower: nn.Module, spec: EncoderSpec) -> bytes:
    """The content of the file.

    Args:
        tower: As `stock_copy` builds it.

    Source: timm, models/_hub.py, `save_config_for_hf` and `_parse_model_cfg`.
    """
    return f"{json.dumps(_config(tower, spec), indent=2)}\n".encode()


def _config(tower: nn.Module, spec: EncoderSpec) -> dict[str, Any]:
    stock: Any = tower.pretrained_cfg
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
