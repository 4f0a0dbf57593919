"""Draw the contact sheet of the model card: captions in rows, guidance 1, 3 and 8 in columns.

python -m benchmarks.embedded_model.contact_sheet pipeline/embedded/contact_sheet.png
"""

import sys

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.embedded_model.gate import render
from pipeline.embedded import world

SCALES = (1.0, 3.0, 8.0)
ROWS, VIEWS, ENLARGE, GAP_PX, TEXT_PX = 20, 8, 2, 2, 230
HEADING_PX = 20


def main(path: str) -> None:
    """Write the sheet as a PNG file."""
    descriptions = world.draw_descriptions(np.random.default_rng([11, 0]), ROWS)
    captions = [description.caption() for description in descriptions]
    size = world.IMAGE_PX * ENLARGE + GAP_PX
    block = VIEWS * size + 4 * GAP_PX
    sheet = Image.new("RGB", (TEXT_PX + len(SCALES) * block, HEADING_PX + ROWS * size), "white")
    draw = ImageDraw.Draw(sheet)
    for column, scale in enumerate(SCALES):
        left = TEXT_PX + column * block
        draw.text((left, 4), f"guidance {scale:g}", fill="black")
        for row, views in enumerate(render(captions, scale, seed=11)):
            for index, pixels in enumerate(views):
                big = Image.fromarray(pixels).resize(
                    (size - GAP_PX, size - GAP_PX), Image.Resampling.NEAREST
                )
                sheet.paste(big, (left + index * size, HEADING_PX + row * size))
    for row, caption in enumerate(captions):
        draw.text((4, HEADING_PX + row * size + size // 3), caption, fill="black")
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
