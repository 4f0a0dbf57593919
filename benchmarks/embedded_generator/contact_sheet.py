"""Draw a contact sheet of the embedded generator: neighbours by sigma, and samples of things.

python -m benchmarks.embedded_generator.contact_sheet OUT.png
"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.embedded_generator.gate import render
from pipeline.embedded.sprites import concepts

SIGMAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
COLUMNS, CLASS_ROWS, SIDE_PX, GAP_PX, LEFT_PX, TEXT_PX = 12, 5, 64, 4, 70, 13


def main(path: str) -> None:
    """Write the sheet as a PNG file."""
    texts = [f"anchor {number} of seed 0" for number in range(COLUMNS)]
    near = render("embedded", texts, [-1] * COLUMNS, sigma=SIGMAS).swapaxes(0, 1)
    count = COLUMNS * CLASS_ROWS
    classes = [index * len(concepts()) // count for index in range(count)]
    texts = [f"anchor {number} of seed 1" for number in range(count)]
    things = render("embedded", texts, classes, sigma=(0.0,)).reshape(
        CLASS_ROWS, COLUMNS, *near.shape[2:]
    )
    font, small = ImageFont.load_default(12), ImageFont.load_default(10)
    step, below = SIDE_PX + GAP_PX, SIDE_PX + TEXT_PX + GAP_PX
    height = len(SIGMAS) * step + 10 + CLASS_ROWS * below
    sheet = Image.new("RGB", (LEFT_PX + COLUMNS * step, height), "white")
    pen = ImageDraw.Draw(sheet)
    for row, sigma in enumerate(SIGMAS):
        pen.text((4, row * step + 24), f"sigma {sigma:g}", "black", font)
        for column in range(COLUMNS):
            _put(sheet, near[row, column], LEFT_PX + column * step, row * step)
    for row in range(CLASS_ROWS):
        top = len(SIGMAS) * step + 10 + row * below
        for column in range(COLUMNS):
            left = LEFT_PX + column * step
            _put(sheet, things[row, column], left, top)
            name = concepts()[classes[row * COLUMNS + column]].name
            pen.text((left, top + SIDE_PX), name[:11], "black", small)
    sheet.quantize(256).save(path, optimize=True)


def _put(sheet: Image.Image, pixels: np.ndarray, left: int, top: int) -> None:
    large = Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST)
    sheet.paste(large, (left, top))


if __name__ == "__main__":
    main(sys.argv[1])
