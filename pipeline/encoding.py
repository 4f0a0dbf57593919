"""Encode pixels as image bytes: shrunk by one named filter, every setting being in the recipe."""

import io
from collections.abc import Collection
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from manifests.errors import CorruptError
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import one_line
from manifests.foundation.settings import Table
from manifests.pictures import read_header

MAX_DECODED_PIXELS = 64 << 20
"""64 Mi pixels are 192 MiB as RGB; a file of a few bytes can claim any size in its header."""

PNG_UP_TO_PX = 32
"""`auto` stores PNG up to this width: it is exact, and small where pictures are. Beyond it textures
are larger as PNG than as JPEG, and encoding them holds the renderer up."""


class ImageConfig(Table):
    """Table [image] of a recipe."""

    size_px: int | None = Field(default=None, ge=8)
    """Shorter side of a stored picture, at most that of the rendered one, and that if not given.
    The longer side keeps its ratio to it."""
    format: Literal["auto", "png", "jpg"] = "auto"
    quality: int = Field(default=95, ge=1, le=100)
    """Quality of JPEG, 1 to 100."""
    chroma: Literal["444", "422", "420"] = "420"
    """Chroma subsampling of JPEG."""
    filter: Literal["lanczos", "bicubic", "box"] = "lanczos"
    """How pictures are shrunk, by Pillow."""


class ImageEncoder:
    """Encodes the views of a set.

    Raises:
        ConfigError: Pictures would have to be enlarged.
    """

    def __init__(self, config: ImageConfig, *, rendered_px: Collection[tuple[int, int]]) -> None:
        """`rendered_px` holds each width and height of what will be encoded."""
        self.config = config
        shorter = [min(size) for size in rendered_px]
        if config.size_px and config.size_px > min(shorter):
            raise ConfigError(
                f"image.size_px {config.size_px}: views are rendered at {min(shorter)} px and only "
                "ever shrunk; render larger with --size"
            )
        self.format = config.format
        if config.format == "auto":
            largest = config.size_px or max(shorter)
            self.format = "png" if largest <= PNG_UP_TO_PX else "jpg"
        self._shrinks = any(self.stored_px(size) != size for size in rendered_px)

    def stored_px(self, rendered_px: tuple[int, int]) -> tuple[int, int]:
        """Width and height of a stored picture."""
        shorter = min(rendered_px)
        width, height = (side * (self.config.size_px or shorter) for side in rendered_px)
        return round(width / shorter), round(height / shorter)

    def identity(self) -> dict[str, str | int]:
        """Settings that decide the stored bytes besides format and size.

        Settings without effect are left out, so that two recipes that give the same bytes are one
        recipe. Example: a PNG that is not shrunk gives `{}`.
        """
        settings: dict[str, str | int] = {}
        if self._shrinks:
            settings["filter"] = self.config.filter
        if self.format == "jpg":
            settings |= {"quality": self.config.quality, "chroma": self.config.chroma}
        return settings

    def encode(self, pixels: NDArray[np.uint8]) -> bytes:
        """Image bytes of RGB pixels [height, width, 3]."""
        height, width, _ = pixels.shape
        stored_px = self.stored_px((width, height))
        if stored_px != (width, height):
            resample = Image.Resampling[self.config.filter.upper()]
            pixels = np.asarray(Image.fromarray(pixels).resize(stored_px, resample))
        if self.format == "jpg":
            # simplejpeg and not Pillow, because it lets the renderer's thread run meanwhile. It
            # takes contiguous arrays only.
            data: bytes = simplejpeg.encode_jpeg(
                np.ascontiguousarray(pixels),
                quality=self.config.quality,
                colorsubsampling=self.config.chroma,
            )
            return data
        buffer = io.BytesIO()
        # The level is spelled out, because it decides the stored bytes.
        Image.fromarray(pixels).save(buffer, "png", compress_level=6)
        return buffer.getvalue()


def decode(data: bytes, *, where: str) -> NDArray[np.uint8]:
    """RGB pixels of PNG or JPEG bytes, [height, width, 3].

    Raises:
        CorruptError: Not a picture, or one of more than MAX_DECODED_PIXELS; names `where`.
    """
    # The header is read by our own code first: Pillow would allocate what the header claims.
    header = read_header(data, where=where)
    if header.width_px * header.height_px > MAX_DECODED_PIXELS:
        raise CorruptError(
            f"{where}: {header.width_px:,} x {header.height_px:,} px, at most "
            f"{MAX_DECODED_PIXELS:,} pixels are decoded"
        )
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as exc:  # broken bytes can make Pillow's decoders raise anything
        raise CorruptError(f"{where}: cannot be decoded ({one_line(exc)})") from exc
