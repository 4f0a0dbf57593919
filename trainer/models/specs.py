"""What a recipe says of towers and heads, and what lies beside an exported tower; without torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import read_regular
from manifests.foundation.messages import one_line
from manifests.foundation.settings import Table, check
from trainer.config import DEFAULT_TOWER
from trainer.errors import CheckpointError

WEIGHTS = "encoder.safetensors"
SPEC = "encoder.json"
MAX_SPEC_BYTES = 1 << 20
"""Largest description that is read."""

_Positive = Annotated[float, Field(gt=0)]


class EncoderSpec(Table):
    """All that decides an encoder besides its weights. Table [model] of a recipe."""

    model: str = DEFAULT_TOWER
    """Name of a timm model."""
    args: dict[str, Any] = Field(default={})
    """Further arguments of `timm.create_model`."""
    input_px: int = Field(default=224, ge=8, le=4096)
    """Side of the square images that the tower takes."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from red, green and blue, which are from 0 to 1; ImageNet's by default."""
    std: tuple[_Positive, _Positive, _Positive] = (0.229, 0.224, 0.225)
    """What red, green and blue are divided by afterwards."""
    crop_fraction: float = Field(default=0.875, gt=0, le=1)
    """In evaluation the shorter side of an image is resized to input_px / crop_fraction; then the
    middle square of `input_px` is cut out."""


class TextSpec(Table):
    """Table [objective.text]; the defaults are the text tower of CLIP and StableRep+."""

    context_length: int = Field(default=77, ge=4)
    width: int = Field(default=512, ge=8)
    heads: int = Field(default=8, ge=1)
    layers: int = Field(default=12, ge=1)
    embed_dim: int = Field(default=512, ge=8)

    @model_validator(mode="after")
    def _divides(self) -> "TextSpec":
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")
        return self


class HeadConfig(Table):
    """Keys of [objective] for an objective with a projection head; the defaults are StableRep's."""

    temperature: float = Field(default=0.1, gt=0)
    head_hidden: int = Field(default=4096, ge=1)
    head_out: int = Field(default=256, ge=1)
    head: Literal["normed", "plain"] = "normed"
    """`normed`: three layers with batch norms, StableRep's. `plain`: two without, as in SupCon and
    GenRep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderDescription:
    """What `encoder.json` says of the weights beside it."""

    spec: EncoderSpec
    sha256: str
    """Of `encoder.safetensors`."""
    made: dict[str, Any]
    """Where it comes from; see `save_encoder`."""


def read_description(path: Path) -> EncoderDescription:
    """The description of an exported encoder.

    Args:
        path: Folder of a run, or the `encoder.safetensors` in it.

    Raises:
        CheckpointError: There is no description, or it cannot be read.
    """
    file = (path if path.is_dir() else path.parent) / SPEC
    try:
        document = json.loads(read_regular(file, max_bytes=MAX_SPEC_BYTES))
        spec = check(EncoderSpec, document["spec"], origin=str(file))
        made = dict(document.get("made", {}))
        return EncoderDescription(spec=spec, sha256=str(document["sha256"]), made=made)
    except FileNotFoundError as exc:
        raise CheckpointError(
            f"{file if path.exists() else path}: no exported encoder here; give a run that "
            f"`synth train` finished, or its {WEIGHTS}"
        ) from exc
    except KeyError as exc:
        raise CheckpointError(f"{file}: not the description of an encoder (no {exc})") from exc
    except (OSError, ValueError, TypeError, RecursionError, ConfigError) as exc:
        raise CheckpointError(
            f"{file}: not the description of an encoder ({one_line(exc)})"
        ) from exc
