"""Pixels to image bytes: shrunk by one named filter, encoded with every setting in the recipe."""

import io
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import Table

PNG_UP_TO_PX = 64
"""`auto` stores PNG up to this size: it is exact there and smaller than JPEG."""


class ImageConfig(Table):
    """Table [image] of a recipe."""

    size_px: int | None = Field(default=None, ge=8)
    """Width and height as stored, at most as rendered; as rendered if not given."""
    format: Literal["auto", "png", "jpg"] = "auto"
    quality: int = Field(default=95, ge=1, le=100)
    """Of JPEG."""
    chroma: Literal["444", "422", "420"] = "420"
    """Subsampling of JPEG."""
    filter: Literal["lanczos", "bicubic", "box"] = "lanczos"
    """How pictures are shrunk, by Pillow."""


class ImageEncoder:
    """Encodes the views of a set."""

    def __init__(self, config: ImageConfig, *, rendered_px: int) -> None:
        self.size_px = config.size_px or rendered_px
        if self.size_px > rendered_px:
            raise ConfigError(
                f"image.size_px {self.size_px}: views are rendered at {rendered_px} px and only "
                "ever shrunk; render larger with --size"
            )
        self.format = config.format
        if config.format == "auto":
            self.format = "png" if self.size_px <= PNG_UP_TO_PX else "jpg"
        self._config = config
        self._shrinks = self.size_px < rendered_px

    def identity(self) -> dict[str, str | int]:
        """What decides the stored bytes; settings that the format ignores are left out."""
        found: dict[str, str | int] = {"format": self.format, "size_px": self.size_px}
        if self._shrinks:
            found["filter"] = self._config.filter
        if self.format == "jpg":
            found |= {"quality": self._config.quality, "chroma": self._config.chroma}
        return found

    def encode(self, pixels: NDArray[np.uint8]) -> bytes:
        """Image bytes of RGB pixels [height, width, 3]."""
        if self._shrinks:
            resample = Image.Resampling[self._config.filter.upper()]
            small = Image.fromarray(pixels).resize((self.size_px, self.size_px), resample)
            pixels = np.asarray(small)
        if self.format == "jpg":
            # simplejpeg and not Pillow: it lets the renderer's thread run while it encodes.
            data: bytes = simplejpeg.encode_jpeg(
                np.ascontiguousarray(pixels),
                quality=self._config.quality,
                colorsubsampling=self._config.chroma,
            )
            return data
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png", compress_level=6)
        return buffer.getvalue()


def decode(data: bytes) -> NDArray[np.uint8]:
    """RGB pixels of PNG or JPEG bytes, [height, width, 3]."""
    with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
        return np.asarray(image.convert("RGB"))
