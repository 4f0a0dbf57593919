"""Image bytes to pixels: JPEG, PNG and WebP, and nothing else.

The first bytes decide what a file is, never its name. Sizes are read from the header and bounded
before a pixel is decoded. The EXIF orientation is ignored, as torchvision ignores it.
"""

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from manifests.foundation.messages import one_line
from trainer.errors import CorruptViewError

MAX_PIXELS = 64 << 20
"""Largest width x height that is decoded: 64 megapixels, 192 MiB as RGB."""

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"


def decode(data: bytes, *, where: str) -> NDArray[np.uint8]:
    """RGB pixels [height, width, 3] of the bytes of one image.

    Gray and paletted images become RGB, 16-bit gray keeps its high byte, and an alpha channel is
    dropped, not blended. Of an animation it is the first frame.

    Raises:
        CorruptViewError: Another format, larger than MAX_PIXELS, or cut off; names `where`.
    """
    try:
        if data.startswith(_JPEG):
            return _decode_jpeg(data)
        if data.startswith(_PNG):
            return _decode_pillow(data, "PNG")
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _decode_pillow(data, "WEBP")
    except CorruptViewError as exc:
        raise CorruptViewError(f"{where}: {exc}") from exc
    except UnidentifiedImageError as exc:
        raise CorruptViewError(f"{where}: the header of the image is broken or cut off") from exc
    # Pillow's decoders raise whatever they like on broken bytes, SyntaxError included.
    except Exception as exc:
        raise CorruptViewError(f"{where}: the image cannot be decoded ({one_line(exc)})") from exc
    first = data[:8].hex(" ") or "nothing"
    raise CorruptViewError(f"{where}: not a JPEG, PNG or WebP image (it begins with {first})")


def _decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        _bound(width, height)
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
        return pixels
    except ValueError as exc:
        # Strict, so it also refuses the stray bytes that real sets hold and every viewer forgives.
        # Pillow forgives them too, but not an end that is missing.
        if "Premature end" in str(exc):
            raise
        return _decode_pillow(data, "JPEG")


def _decode_pillow(data: bytes, kind: str) -> NDArray[np.uint8]:
    if ImageFile.LOAD_TRUNCATED_IMAGES:  # some libraries switch it on for the whole process
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        _bound(*image.size)
        if image.mode.startswith("I"):
            return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        if "transparency" in image.info:  # Pillow warns if a palette skips RGBA here
            return np.asarray(image.convert("RGBA").convert("RGB"))
        return np.asarray(image.convert("RGB"))


def _bound(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise CorruptViewError(
            f"the header says {width:,} x {height:,} pixels, at most {MAX_PIXELS:,} are decoded"
        )
