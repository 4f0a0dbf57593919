"""The text half of a run as `text.safetensors`: its tower is a `TextTransformer` of open_clip."""

from pathlib import Path
from typing import ClassVar

from manifests.foundation.errors import ConfigError
from trainer.exports import Origin
from trainer.models.encoder import EncoderSpec
from trainer.models.text import SPEC, WEIGHTS, ImageText, save_text


class TextHalf:
    """Text tower, projection of image features and scale; `synth evaluate` reads it as zero-shot.

    The weights of the tower have the prefix `text.` and then the names of open_clip.
    """

    part: ClassVar[str] = "text"
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, SPEC)

    def write(self, folder: Path, module: ImageText, spec: EncoderSpec, origin: Origin) -> None:
        if not isinstance(module, ImageText):
            raise ConfigError(
                f"run.exports: text takes a trainer.models.text.ImageText, the objective "
                f"{origin.objective} exports a {type(module).__name__}; leave the export out"
            )
        save_text(folder, module)
