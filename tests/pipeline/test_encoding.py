import io

import numpy as np
import pytest
from PIL import Image

from manifests.errors import CorruptError
from manifests.foundation.errors import ConfigError
from pipeline.encoding import ImageConfig, ImageEncoder, decode
from tests.sets import png, refused


def picture(size: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 255, size), np.linspace(0, 255, size))
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


def test_png_is_exact() -> None:
    encoder = ImageEncoder(ImageConfig(), rendered_px=[(32, 32)])
    assert (encoder.format, encoder.stored_px((32, 32)), encoder.identity()) == (
        "png",
        (32, 32),
        {},
    )
    np.testing.assert_array_equal(decode(encoder.encode(picture(32)), where="a"), picture(32))


def test_auto_is_jpeg_above_32_px() -> None:
    encoder = ImageEncoder(ImageConfig(), rendered_px=[(128, 128)])
    assert (encoder.format, encoder.stored_px((128, 128))) == ("jpg", (128, 128))
    assert encoder.identity() == {"quality": 95, "chroma": "420"}
    error = np.abs(decode(encoder.encode(picture(128)), where="a").astype(int) - picture(128))
    assert error.mean() < 2


@pytest.mark.parametrize(("chroma", "subsampling"), [("444", 0), ("422", 1), ("420", 2)])
def test_chroma_is_what_the_recipe_says(chroma: str, subsampling: int) -> None:
    from PIL import JpegImagePlugin

    encoder = ImageEncoder(ImageConfig(format="jpg", chroma=chroma), rendered_px=[(64, 64)])  # type: ignore[arg-type]
    with Image.open(io.BytesIO(encoder.encode(picture(64)))) as image:
        assert JpegImagePlugin.get_sampling(image) == subsampling


def test_stored_size_shrinks_by_the_named_filter() -> None:
    encoder = ImageEncoder(ImageConfig(size_px=16, filter="box"), rendered_px=[(64, 64)])
    assert (encoder.format, encoder.stored_px((64, 64))) == ("png", (16, 16))
    assert encoder.identity() == {"filter": "box"}
    expected = picture(64).reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(decode(encoder.encode(picture(64)), where="a") - expected).max() <= 0.5


def test_pictures_of_several_sizes_have_one_shorter_side_and_one_format() -> None:
    sizes = [(64, 64), (96, 48), (30, 32)]
    encoder = ImageEncoder(ImageConfig(size_px=24), rendered_px=sizes)
    assert [encoder.stored_px(size) for size in sizes] == [(24, 24), (48, 24), (24, 26)]
    assert encoder.identity() == {"filter": "lanczos"}
    assert decode(encoder.encode(picture(64)[:48]), where="a").shape == (24, 32, 3)
    as_rendered = ImageEncoder(ImageConfig(), rendered_px=sizes)
    assert [as_rendered.stored_px(size) for size in sizes] == sizes
    assert as_rendered.format == "jpg"


def test_enlarging_is_refused() -> None:
    for sizes in ([(64, 64)], [(256, 256), (64, 256)]):
        with pytest.raises(ConfigError, match="rendered at 64 px and only ever shrunk"):
            ImageEncoder(ImageConfig(size_px=128), rendered_px=sizes)


def test_other_images_are_not_decoded() -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(8)).save(buffer, "bmp")
    with refused(CorruptError, "a.tar, 1", "not a whole PNG or JPEG"):
        decode(buffer.getvalue(), where="a.tar, 1")


def test_a_small_file_cannot_claim_more_memory_than_is_stated() -> None:
    with refused(CorruptError, "a.tar, 1", "30,000 x 30,000 px, at most 67,108,864 pixels"):
        decode(png(30_000, 30_000, b""), where="a.tar, 1")


def test_a_picture_that_is_broken_inside_is_one_line() -> None:
    data = bytearray(png(8, 8, bytes(192)))
    data[45] ^= 255
    with refused(CorruptError, "a.tar, 1", "cannot be decoded"):
        decode(bytes(data), where="a.tar, 1")
