"""Format and size of a picture, read from its header without an imaging library.

This is enough to refuse bytes that are no picture, that were cut off, or that have another format
or size than their row says. A fault inside the compressed data shows only when it is decoded.
"""

from dataclasses import dataclass

from manifests.errors import CorruptError

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
"""The last chunk, always the same: length 0, its type, and its checksum."""
_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Markers of the frame headers that decoders take: baseline, extended and progressive."""
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment: no length follows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureHeader:
    """Format and size as a picture itself states them."""

    format: str
    """png or jpg."""
    width_px: int
    height_px: int


def read_header(data: bytes, *, where: str) -> PictureHeader:
    """Format and size of the bytes of a PNG or a JPEG.

    Raises:
        CorruptError: Neither of them, or cut off.
    """
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and data.endswith(_PNG_END):
        # IHDR is always the first chunk, so its fields have fixed offsets.
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        return PictureHeader(format="png", width_px=width, height_px=height)
    if data.startswith(_JPEG) and data.endswith(_JPEG_END):
        if (size := _jpeg_size(data)) is not None:
            return PictureHeader(format="jpg", width_px=size[0], height_px=size[1])
    raise CorruptError(
        f"{where}: not a whole PNG or JPEG, it begins with {data[:8].hex(' ') or 'nothing'}; "
        "render the shard again"
    )


def require_picture(data: bytes, *, format: str, width_px: int, height_px: int, where: str) -> None:
    """Refuse bytes that are no picture of this format and size. Raises CorruptError."""
    header = read_header(data, where=where)
    expected = PictureHeader(format=format, width_px=width_px, height_px=height_px)
    if header != expected:
        raise CorruptError(
            f"{where}: a {header.format} of {header.width_px:,} x {header.height_px:,} px, its row "
            f"says {format} of {width_px} x {height_px}; render the shard again"
        )


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the first frame header; None if there is none.

    The segments before it are skipped by the lengths that they state. A segment is the byte 0xFF,
    a marker, and two bytes of length, which counts itself but not the marker.
    """
    at = 2
    # A frame header has 9 bytes up to the width. Each turn moves ahead by at least one byte, so
    # that hostile lengths, 0 included, cannot keep it from ending.
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _JPEG_ALONE:
            at += 2
        elif marker in _JPEG_FRAMES:
            height, width = (int.from_bytes(data[n : n + 2], "big") for n in (at + 5, at + 7))
            return width, height
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
