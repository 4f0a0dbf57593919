"""The image tower as a folder of the Hugging Face Hub, which `timm.create_model` opens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import write_whole
from trainer.model_card import model_card
from trainer.models import timm_config
from trainer.models.encoder import is_stock, stock_copy
from trainer.models.specs import EncoderSpec
from trainer.models.weights import write_weights
from trainer.origin import Origin

CONFIG, WEIGHTS, CARD = timm_config.FILE, "model.safetensors", "README.md"

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
        write_whole(folder / CONFIG, timm_config.config_bytes(tower, spec))
        write_whole(folder / CARD, card.encode())
