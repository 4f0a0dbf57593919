"""From what a pipeline computes to 8-bit pictures, on the device that computed it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor

from pipeline.errors import ModelError


def output_type(pipe: Any) -> str:
    """What to ask a pipeline for: tensors on its device where it has diffusers' own processor.

    The others return tensors that are not scaled, so they are asked for arrays.
    """
    is_stock = isinstance(getattr(pipe, "image_processor", None), VaeImageProcessor)
    return "pt" if is_stock else "np"


def to_pixels(
    images: Any, *, width_px: int, height_px: int, name: str
) -> Sequence[tuple[np.ndarray, bool]]:
    """Pixels of each picture, uint8 [height, width, 3], and whether all its numbers are finite.

    They are rounded as diffusers does it for its own pictures, but before they leave the device.
    NaN has no 8-bit value: where a picture is not finite, its pixels mean nothing.

    Args:
        images: Tensor [views, 3, height, width] or array [views, height, width, 3], of 0 to 1.
        name: Of the model, for messages.

    Raises:
        ModelError: The pictures have another size.
    """
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2) if _is_array(images) else images
    height, width = tensor.shape[2:]
    if (width, height) != (width_px, height_px):
        size = width if width == height else f"{width}x{height}"
        raise ModelError(
            f"{name}: renders {width} x {height} px where {width_px} x {height_px} are asked for; "
            f"give --size {size}, or another that it renders"
        )
    # Scaled in float32 whatever the pipeline computes in, as diffusers does it.
    floats = tensor.float()
    finite = floats.isfinite().flatten(1).all(1).cpu()
    levels = (floats.nan_to_num() * 255).round().clamp(0, 255).to(torch.uint8)
    pixels = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return [(view, bool(ok)) for view, ok in zip(pixels, finite, strict=True)]


def _is_array(images: Any) -> bool:
    return isinstance(images, np.ndarray)
