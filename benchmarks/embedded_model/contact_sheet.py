"""Draw the contact sheet of the pictogram model: its views, four a caption.

python -m benchmarks.embedded_model.contact_sheet MODEL OUT.png [GUIDANCE]
"""

import sys

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.embedded_model.gate import VIEWS, render
from pipeline.embedded.captions import draw_descriptions

COLUMNS_OF_CAPTIONS, NUM_CAPTIONS, ENLARGE, GAP_PX, TEXT_PX = 4, 80, 2, 2, 14


def main(model: str, path: str, scale: float) -> None:
    """Write the sheet as a PNG file."""
    said = draw_descriptions(np.random.default_rng([11, 0]), NUM_CAPTIONS)
    captions = [each.caption() for each in said]
    views = render(model, captions, scale=scale, steps=8, seed=11)
    side = views.shape[2] * ENLARGE
    width, height = VIEWS * (side + GAP_PX) + 4 * GAP_PX, side + TEXT_PX + GAP_PX
    rows = -(-NUM_CAPTIONS // COLUMNS_OF_CAPTIONS)
    sheet = Image.new("RGB", (COLUMNS_OF_CAPTIONS * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, caption in enumerate(captions):
        row, column = divmod(index, COLUMNS_OF_CAPTIONS)
        left, top = column * width, row * height
        draw.text((left, top), caption, fill="black")
        for view, pixels in enumerate(views[index]):
            enlarged = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left + view * (side + GAP_PX), top + TEXT_PX))
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 4.0)
