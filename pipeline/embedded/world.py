"""Real handwriting in coloured ink on a coloured ground, with captions that partly describe it.

The glyphs are scikit-learn's `load_digits`: 1,797 real handwritten digits of 8 x 8 pixels (UCI
"Optical Recognition of Handwritten Digits", CC BY 4.0). A picture is a glyph painted at 8 px and
shown at 32 px by two bilinear doublings. A caption always names the digit and each other
attribute with probability 0.3: two are measured (stroke, lean), two are drawn (ink, ground).

The split is fixed and shipped as index lists (`splits.json`): generator and encoders see `train`
alone; `select` judges and selects during development; `report` is only ever reported on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "select", "report"]

GLYPH_PX = 8
IMAGE_PX = 32
NAMING_PROB = 0.3
"""How often a caption names an attribute other than the digit."""
MIN_LIGHTNESS_GAP = 18.0
"""Smallest difference in CIE L* between ink and ground, so that no picture is blank."""
COLOUR_JITTER = 10
"""Largest change of each channel of a named colour, in levels of 255."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STROKES = ("thin", "regular", "bold")
LEANS = ("leaning left", "upright", "leaning right")
COLOURS = {
    "black": (20, 20, 20),
    "white": (245, 245, 245),
    "red": (214, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (250, 220, 40),
    "green": (30, 150, 60),
    "cyan": (50, 200, 215),
    "blue": (40, 60, 210),
    "purple": (125, 40, 160),
    "pink": (250, 150, 190),
}
COLOUR_NAMES = tuple(COLOURS)
COLOUR_RGB = np.array(list(COLOURS.values()), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """Handwritten digits of one split, in the order of the split's index list."""

    ink: NDArray[np.float64]
    """Amount of ink, 0 to 1, [glyphs, 8, 8]."""
    digit: NDArray[np.int64]
    """What was written, 0 to 9, [glyphs]."""
    stroke: NDArray[np.int64]
    """Index into STROKES: third of the total ink within the digit's class, [glyphs]."""
    lean: NDArray[np.int64]
    """Index into LEANS: third of the shear moment within the digit's class, [glyphs]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The attributes of one picture, as indices into the tables above; None is not named."""

    digit: int
    stroke: int | None = None
    lean: int | None = None
    ink: int | None = None
    ground: int | None = None

    def caption(self) -> str:
        """Say what is named: `a bold red seven on blue, leaning left`."""
        words = []
        if self.stroke is not None:
            words.append(STROKES[self.stroke])
        if self.ink is not None:
            words.append(COLOUR_NAMES[self.ink])
        words.append(DIGITS[self.digit])
        if self.ground is not None:
            words += ["on", COLOUR_NAMES[self.ground]]
        article = "an" if words[0] in ("eight", "orange") else "a"
        lean = "" if self.lean is None else f", {LEANS[self.lean]}"
        return f"{article} {' '.join(words)}{lean}"


def lightness(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L* (0 to 100) of sRGB colours given in levels of 255, [..., 3] -> [...]."""
    channel = rgb / 255
    linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    cube_root = np.cbrt(luminance)
    found: NDArray[np.float64] = np.where(
        luminance > 0.008856, 116 * cube_root - 16, 903.3 * luminance
    )
    return found


def legible_pairs() -> NDArray[np.int64]:
    """(ink, ground) colour indices whose lightness differs enough to be read, [pairs, 2]."""
    light = lightness(COLOUR_RGB)
    gap = np.abs(light[:, None] - light[None, :])
    return np.argwhere(gap >= MIN_LIGHTNESS_GAP)


def split_indices(split: Split) -> NDArray[np.int64]:
    """Rows of `load_digits` that belong to a split, ascending."""
    text = resources.files("pipeline.embedded").joinpath("splits.json").read_text("utf-8")
    return np.array(json.loads(text)[split], dtype=np.int64)


@cache
def _all_glyphs() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images / 16.0, data.target.astype(np.int64)


def _shear(ink: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the top leans to the right per pixel of height, by second moments, [glyphs]."""
    y, x = np.mgrid[0:GLYPH_PX, 0:GLYPH_PX].astype(np.float64)
    mass = ink.sum(axis=(1, 2))
    dx = x - ((ink * x).sum(axis=(1, 2)) / mass)[:, None, None]
    dy = y - ((ink * y).sum(axis=(1, 2)) / mass)[:, None, None]
    shear: NDArray[np.float64] = -(ink * dx * dy).sum(axis=(1, 2)) / (ink * dy * dy).sum(
        axis=(1, 2)
    )
    return shear


def _third_within_class(
    value: NDArray[np.float64], digit: NDArray[np.int64], reference: NDArray[np.int64]
) -> NDArray[np.int64]:
    """0, 1 or 2: the third of `value` within its class; the limits come from `reference` rows."""
    third = np.empty(len(value), dtype=np.int64)
    for each in range(len(DIGITS)):
        rows = digit == each
        limits = np.quantile(value[reference][digit[reference] == each], [1 / 3, 2 / 3])
        third[rows] = np.searchsorted(limits, value[rows])
    return third


def glyphs(split: Split) -> Glyphs:
    """The real handwriting of a split; the limits of stroke and lean are those of `train`."""
    ink, digit = _all_glyphs()
    train, rows = split_indices("train"), split_indices(split)
    stroke = _third_within_class(ink.sum(axis=(1, 2)), digit, train)
    lean = _third_within_class(_shear(ink), digit, train)
    return Glyphs(ink=ink[rows], digit=digit[rows], stroke=stroke[rows], lean=lean[rows])


def describe(
    rng: np.random.Generator,
    *,
    digit: int,
    stroke: int,
    lean: int,
    ink: int,
    ground: int,
    naming_prob: float = NAMING_PROB,
) -> Description:
    """Name the digit, and each other attribute with a probability."""
    named = rng.random(4) < naming_prob
    return Description(
        digit=digit,
        stroke=stroke if named[0] else None,
        lean=lean if named[1] else None,
        ink=ink if named[2] else None,
        ground=ground if named[3] else None,
    )


def draw_descriptions(rng: np.random.Generator, count: int) -> list[Description]:
    """Draw `count` different descriptions, digits in turn, every named pair of colours legible."""
    pairs = legible_pairs()
    chosen: dict[str, Description] = {}
    while len(chosen) < count:
        ink, ground = pairs[rng.integers(len(pairs))]
        stroke, lean = rng.integers(3, size=2)
        description = describe(
            rng,
            digit=len(chosen) % len(DIGITS),
            stroke=int(stroke),
            lean=int(lean),
            ink=int(ink),
            ground=int(ground),
        )
        chosen.setdefault(description.caption(), description)
    return list(chosen.values())


def draw_colours(
    rng: np.random.Generator, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Jittered RGB in 0 to 1 of (ink, ground) colour pairs, each [pairs, 3]."""
    jitter = rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, size=(len(pairs), 2, 3))
    rgb = np.clip(COLOUR_RGB[pairs] + jitter, 0, 255) / 255
    return rgb[:, 0], rgb[:, 1]


def paint(
    ink: NDArray[np.float64], ink_rgb: NDArray[np.float64], ground_rgb: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pictures at 8 px in 0 to 1: [glyphs, 8, 8], [glyphs, 3], [glyphs, 3] -> [glyphs, 8, 8, 3]."""
    cover = ink[..., None]
    return cover * ink_rgb[:, None, None, :] + (1 - cover) * ground_rgb[:, None, None, :]


def show(pictures: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Enlarge as the model's decoder does: [n, 8, 8, 3] in 0 to 1 -> uint8 [n, 32, 32, 3]."""
    for axis in (1, 2):
        for _ in range(2):
            pictures = _double(pictures, axis)
    return np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)


def _double(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Bilinear doubling along one axis, pixel centres aligned, borders repeated."""
    values = np.moveaxis(values, axis, 0)
    before = np.concatenate([values[:1], values[:-1]])
    after = np.concatenate([values[1:], values[-1:]])
    doubled = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis=1)
    return np.moveaxis(doubled.reshape(-1, *values.shape[1:]), 0, axis)


def paint_split(
    split: Split, *, paintings_per_glyph: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], Sequence[Description]]:
    """Real pictures of a split: uint8 [n, 32, 32, 3], (ink, ground) [n, 2], full descriptions."""
    rng = np.random.default_rng(seed)
    real = glyphs(split)
    rows = np.repeat(np.arange(len(real.digit)), paintings_per_glyph)
    legible = legible_pairs()
    pairs = legible[rng.integers(len(legible), size=len(rows))]
    pictures = show(paint(real.ink[rows], *draw_colours(rng, pairs)))
    descriptions = [
        Description(
            digit=int(real.digit[row]),
            stroke=int(real.stroke[row]),
            lean=int(real.lean[row]),
            ink=int(pair[0]),
            ground=int(pair[1]),
        )
        for row, pair in zip(rows, pairs, strict=True)
    ]
    return pictures, pairs, descriptions
