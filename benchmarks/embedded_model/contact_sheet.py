"""Draw the contact sheet of the model card: captions in rows, guidance 1, 3 and 8 in columns.

python -m benchmarks.embedded_model.contact_sheet pipeline/embedded/contact_sheet.png
"""

import sys

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.embedded_model.gate import render
from pipeline.embedded import world

SCALES = (1.0, 3.0, 8.0)
ROWS, VIEWS, ENLARGE, GAP, TEXT_PX = 20, 8, 2, 2, 230


def main(path: str) -> None:
    captions = [
        each.caption() for each in world.draw_descriptions(np.random.default_rng([11, 0]), ROWS)
    ]
    size = world.IMAGE_PX * ENLARGE + GAP
    block = VIEWS * size + 4 * GAP
    sheet = Image.new("RGB", (TEXT_PX + len(SCALES) * block, 20 + ROWS * size), "white")
    draw = ImageDraw.Draw(sheet)
    for column, scale in enumerate(SCALES):
        left = TEXT_PX + column * block
        draw.text((left, 4), f"guidance {scale:g}", fill="black")
        for row, views in enumerate(render(captions, scale, seed=11)):
            for index, pixels in enumerate(views):
                big = Image.fromarray(pixels).resize(
                    (size - GAP, size - GAP), Image.Resampling.NEAREST
                )
                sheet.paste(big, (left + index * size, 20 + row * size))
    for row, caption in enumerate(captions):
        draw.text((4, 20 + row * size + size // 3), caption, fill="black")
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
