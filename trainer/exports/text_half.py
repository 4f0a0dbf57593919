"""The text half of a run as `text.safetensors`: its tower is a `TextTransformer` of open_clip."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from trainer.models.specs import EncoderSpec
from trainer.models.text import SPEC, WEIGHTS, require_image_text, save_text
from trainer.origin import Origin


class TextHalf:
    """Text tower, projection of image features and scale; `synth evaluate` reads it as zero-shot.

    The weights of the tower have the prefix `text.` and then the names of open_clip.
    """

    parts: ClassVar[tuple[str, ...]] = ("text",)
    files: ClassVar[tuple[str, ...]] = (WEIGHTS, SPEC)

    def check(self, parts: Mapping[str, Any], spec: EncoderSpec) -> None:
        require_image_text(parts["text"], export="text")

    def write(
        self, folder: Path, parts: Mapping[str, Any], spec: EncoderSpec, origin: Origin
    ) -> None:
        save_text(folder, parts["text"])
