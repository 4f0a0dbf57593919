"""The image tower as `encoder.safetensors`, which timm loads with `strict=True`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from trainer.models.encoder import SPEC, WEIGHTS, EncoderSpec, save_encoder
from trainer.origin import Origin


class TimmEncoder:
    """Weights under timm's names, and `encoder.json` with the arguments that build the tower."""

    parts: ClassVar[tuple[str, ...]] = ("image",)
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, SPEC)

    def check(self, parts: Mapping[str, Any], spec: EncoderSpec) -> None:
        """Every tower can be written."""

    def write(
        self, folder: Path, parts: Mapping[str, Any], spec: EncoderSpec, origin: Origin
    ) -> None:
        save_encoder(folder, parts["image"], spec, origin.to_json())
