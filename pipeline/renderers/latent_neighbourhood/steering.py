"""Learned directions: the file in which they are kept, and the step along one.

Source: Jahanian, Chai and Isola, On the "steerability" of generative adversarial networks,
arXiv:1907.07171, as GenRep uses it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.errors import ModelError

MAX_ZOOM, MAX_SHIFT, MAX_TURN, MAX_BRIGHTNESS, MAX_HUE = 1.5, 0.2, 25.0, 0.3, 60.0

AMOUNTS: Mapping[str, str] = {
    "zoom": f"{MAX_ZOOM:g} times as large",
    "shift_x": f"{MAX_SHIFT:g} of the side to the right",
    "shift_y": f"{MAX_SHIFT:g} of the side downwards",
    "rotate": f"{MAX_TURN:g} degrees",
    "brightness": f"{MAX_BRIGHTNESS:g} of the range brighter",
    "hue": f"{MAX_HUE:g} degrees of hue",
}
"""What an amount of 1 is, by the name of the edit that a direction is learned from (`learning`)."""

EMBEDDED_FILE = Path(__file__).parents[2] / "embedded" / "generator" / "directions.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directions:
    """Directions of one generator's latents."""

    generator: str
    """SHA-256 of the generator's file."""
    ranges: Mapping[str, str]
    """What amount 1 means by the name of the direction. Example: `{"zoom": "1.5 times"}`."""
    vectors: Mapping[str, NDArray[np.float32]]
    """By name, each [latent_dim]: the step for an amount of 1."""


def write_directions(path: Path, directions: Directions) -> None:
    """Write a file of directions."""
    metadata = {"generator": directions.generator, "ranges": json.dumps(dict(directions.ranges))}
    save_file(dict(directions.vectors), path, metadata=metadata)


def read_directions(path: Path) -> Directions:
    """Read a file that `synth steer` wrote. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file of directions; `synth steer` learns one")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            vectors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        directions = Directions(
            generator=metadata["generator"], ranges=json.loads(metadata["ranges"]), vectors=vectors
        )
        if not isinstance(directions.ranges, dict):
            raise ValueError("its ranges are no object")
    except (SafetensorError, KeyError, ValueError, OSError, RecursionError) as exc:
        raise ModelError(
            f"{path}: no file of directions ({exc}); `synth steer` writes one"
        ) from exc
    for name, vector in vectors.items():
        if vector.ndim != 1 or vector.dtype != np.float32 or not np.isfinite(vector).all():
            raise ModelError(f"{path}: direction {name} is no vector of finite 32-bit floats")
    return directions
