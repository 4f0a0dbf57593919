import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from manifests.errors import CorruptError
from manifests.pictures import PictureHeader, read_header, require_picture
from tests.sets import png, refused

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)


def pillow(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (pillow("png"), "png"),
        (pillow("png", pnginfo=None, optimize=True), "png"),
        (png(40, 24, PIXELS.tobytes()), "png"),
        (pillow("jpeg"), "jpg"),
        (pillow("jpeg", progressive=True), "jpg"),
        (pillow("jpeg", exif=b"Exif\0\0" + bytes(5000), comment=b"\xff\xc0 in a comment"), "jpg"),
        (simplejpeg.encode_jpeg(PIXELS, quality=95, colorsubsampling="420"), "jpg"),
    ],
)
def test_format_and_size_are_those_that_an_imaging_library_sees(data: bytes, kind: str) -> None:
    header = PictureHeader(format=kind, width_px=40, height_px=24)
    assert read_header(data, where="a") == header


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        b"\x80\x04\x95\x10",
        pillow("png")[:-1],
        pillow("jpeg")[:-1],
        pillow("gif"),
        pillow("webp"),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\x00\x00" * 9 + b"\xff\xd9",
        b"\x89PNG\r\n\x1a\n" + bytes(40),
    ],
)
def test_what_is_no_whole_picture_is_refused(data: bytes) -> None:
    with refused(CorruptError, "a.tar, 1.png", "not a whole PNG or JPEG"):
        read_header(data, where="a.tar, 1.png")


def test_a_picture_of_another_size_or_format_than_its_row_says_is_refused() -> None:
    size = {"width_px": 40, "height_px": 24}
    require_picture(pillow("png"), format="png", where="a", **size)
    with refused(CorruptError, "a jpg of 40 x 24 px", "says png of 40 x 24"):
        require_picture(pillow("jpeg"), format="png", where="a", **size)
    huge = pillow("png").replace((40).to_bytes(4, "big"), (30_000).to_bytes(4, "big"), 1)
    with refused(CorruptError, "a png of 30,000 x 24 px"):
        require_picture(huge, format="png", where="a", **size)
