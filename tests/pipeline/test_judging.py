import numpy as np

from pipeline.judging import BLANK_RANGE, judge
from pipeline.views import RenderedView


def flat(level: int) -> np.ndarray:
    return np.full((4, 4, 3), level, dtype=np.uint8)


def test_picture_of_one_colour_is_blank() -> None:
    assert judge(RenderedView(pixels=flat(200))) == "blank"


def test_nearly_one_colour_is_blank_up_to_the_limit() -> None:
    pixels = flat(100)
    pixels[0, 0, 1] += BLANK_RANGE - 1
    assert judge(RenderedView(pixels=pixels)) == "blank"
    pixels[0, 0, 1] += 1
    assert judge(RenderedView(pixels=pixels)) == ""


def test_colours_that_differ_between_channels_only_are_blank() -> None:
    pixels = flat(0)
    pixels[..., 0] = 255
    assert judge(RenderedView(pixels=pixels)) == "blank"


def test_non_finite_is_told_before_blank() -> None:
    assert judge(RenderedView(pixels=flat(0), is_finite=False)) == "non-finite"
