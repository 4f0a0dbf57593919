"""Only images are decoded, whole ones, of a bounded size, whatever their name and mode."""

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.labelled_sets import encoded, png
from tests.sets import refused
from trainer.data.decoding import MAX_PIXELS, decode
from trainer.errors import CorruptViewError

Y, X = np.mgrid[:48, :64]
PIXELS = np.stack([X * 4, Y * 5, X + Y], axis=-1).astype(np.uint8)
JPEG = simplejpeg.encode_jpeg(PIXELS, quality=95)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_lossless_pictures_come_out_as_they_went_in(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, lossless=True)
    np.testing.assert_array_equal(decode(buffer.getvalue(), where="x"), PIXELS)


def test_jpeg_is_near_what_went_in() -> None:
    pixels = decode(JPEG, where="x")
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - PIXELS).mean() < 2


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_another_mode_is_rgb_as_pillow_says(mode: str) -> None:
    data = encoded(PIXELS, "jpeg", mode=mode)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data, where="x").astype(int) - expected).max() <= 1


def test_progressive_jpeg_is_read() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "jpeg", progressive=True)
    assert decode(buffer.getvalue(), where="x").shape == PIXELS.shape


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_png_of_any_mode_is_rgb(mode: str) -> None:
    pixels = decode(png(255, mode=mode), where="x")
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8


def test_sixteen_bit_gray_keeps_its_high_byte() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 0x8040, dtype=np.uint16)).save(buffer, "png")
    assert (decode(buffer.getvalue(), where="x") == 0x80).all()


def test_palette_with_transparency_is_rgb() -> None:
    image = Image.fromarray(PIXELS).convert("P")
    image.info["transparency"] = bytes(range(256))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    assert decode(buffer.getvalue(), where="x").shape == PIXELS.shape


def test_stray_bytes_of_a_jpeg_are_forgiven() -> None:
    assert decode(JPEG[:-2] + b"\x00\x11" + JPEG[-2:], where="x").shape == PIXELS.shape


def test_cut_images_are_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    progressive = io.BytesIO()
    Image.fromarray(noise).save(progressive, "jpeg", progressive=True)
    whole = {
        "jpeg": simplejpeg.encode_jpeg(noise),
        "progressive": progressive.getvalue(),
        "png": encoded(noise, "png"),
        "webp": encoded(noise, "webp"),
    }
    for name, data in whole.items():
        for length in (12, len(data) // 2, len(data) * 9 // 10):
            with refused(CorruptViewError, f"{name} {length}: "):
                decode(data[:length], where=f"{name} {length}")


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"GIF89a" + bytes(20), b"BM" + bytes(60), b"%!PS-Adobe", b"\x80\x04N."],
    ids=["empty", "byte", "gif", "bmp", "postscript", "pickle"],
)
def test_other_formats_are_refused(data: bytes) -> None:
    with refused(CorruptViewError, "shard 3, key 7: not a JPEG, PNG or WebP image"):
        decode(data, where="shard 3, key 7")


def test_other_format_with_the_first_bytes_of_png_is_refused() -> None:
    with refused(CorruptViewError, "x: the header of the image is broken or cut off"):
        decode(b"\x89PNG\r\n\x1a\n" + b"GIF89a" + bytes(40), where="x")


def png_that_says(width: int, height: int) -> bytes:
    """A few bytes of PNG whose header promises a picture of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side_px", [8200, 12_000, 60_000])
def test_png_bomb_is_refused_by_its_header(side_px: int) -> None:
    assert side_px**2 > MAX_PIXELS
    with refused(CorruptViewError, "bomb.png: "):
        decode(png_that_says(side_px, side_px), where="bomb.png")


def test_jpeg_bomb_is_refused_by_its_header() -> None:
    at = JPEG.index(b"\xff\xc0") + 5
    bomb = JPEG[:at] + struct.pack(">HH", 60_000, 60_000) + JPEG[at + 4 :]
    with refused(CorruptViewError, "bomb: the header says 60,000 x 60,000 pixels"):
        decode(bomb, where="bomb")
