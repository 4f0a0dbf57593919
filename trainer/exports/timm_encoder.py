"""The image tower as the run itself has it: `encoder.safetensors`, which timm opens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from manifests.foundation.files import write_whole
from trainer.model_card import model_card
from trainer.models import timm_config
from trainer.models.encoder import is_stock, save_encoder, stock_copy
from trainer.models.specs import SPEC, WEIGHTS, EncoderSpec
from trainer.origin import Origin

CARD = "README.md"

_USAGE = """
import timm
{register}
model = timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=0).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
"""

_NOTES = (
    "FOLDER is this run. `synth export FOLDER --as timm-hub` writes one with nothing but what the "
    "Hub needs, and with the facts of the set.",
)
_OWN_NOTE = (
    "{model} is a tower of synth-rep: timm knows its name where that package is installed and was "
    "imported as above. `synth export FOLDER --as onnx` writes a graph that needs none of it."
)


class TimmEncoder:
    """Weights under timm's names, `encoder.json` with the arguments that build the tower, timm's
    own `config.json`, and a card."""

    parts: ClassVar[tuple[str, ...]] = ("image",)
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, SPEC, timm_config.FILE, CARD)

    def check(self, parts: Mapping[str, Any], spec: EncoderSpec) -> None:
        """Every tower can be written."""

    def write(
        self, folder: Path, parts: Mapping[str, Any], spec: EncoderSpec, origin: Origin
    ) -> None:
        is_own = not is_stock(spec)
        card = model_card(
            origin,
            spec,
            library="timm",
            task="image-feature-extraction",
            usage=_USAGE.format(register="import trainer.models.encoder\n" if is_own else ""),
            notes=(*_NOTES, *((_OWN_NOTE.format(model=spec.model),) if is_own else ())),
        )
        config = timm_config.config_bytes(stock_copy(parts["image"], spec), spec)
        write_whole(folder / timm_config.FILE, config)
        write_whole(folder / CARD, card.encode())
        # Last, because a folder with its description is a finished run.
        save_encoder(folder, parts["image"], spec, origin.to_json())
