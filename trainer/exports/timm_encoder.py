"""The image tower as `encoder.safetensors`, which timm loads with `strict=True`."""

from pathlib import Path
from typing import ClassVar

from torch import nn

from trainer.exports import Origin
from trainer.models.encoder import SPEC, WEIGHTS, EncoderSpec, save_encoder


class TimmEncoder:
    """Weights under timm's names, and `encoder.json` with the arguments that build the tower."""

    part: ClassVar[str] = "image"
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, SPEC)

    def write(self, folder: Path, module: nn.Module, spec: EncoderSpec, origin: Origin) -> None:
        made = {
            "objective": origin.objective,
            "steps": origin.steps,
            "set": {"url": origin.url, "root_sha256": origin.root_sha256},
        }
        save_encoder(folder, module, spec, made)
