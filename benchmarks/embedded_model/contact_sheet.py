"""Draw the contact sheet of the embedded model: one view of each thing, its name below.

python -m benchmarks.embedded_model.contact_sheet MODEL OUT.png [GUIDANCE] [SEED]
"""

import sys

from PIL import Image, ImageDraw, ImageFont

from benchmarks.embedded_model.gate import render
from pipeline.embedded.captions import Description
from pipeline.embedded.sprites import concepts

COLUMNS, PICTURE_PX, GAP_PX, TEXT_PX, STEPS = 16, 80, 4, 13, 5


def main(model: str, path: str, scale: float, seed: int) -> None:
    """Write the sheet as a PNG file."""
    captions = [
        Description(concept=index, name=thing.name).caption()
        for index, thing in enumerate(concepts())
    ]
    views = render(model, captions, scale=scale, steps=STEPS, seed=seed)
    across, down = PICTURE_PX + GAP_PX, PICTURE_PX + TEXT_PX
    rows = -(-len(captions) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * across, rows * down), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for index, thing in enumerate(concepts()):
        row, column = divmod(index, COLUMNS)
        left, top = column * across, row * down
        picture = Image.fromarray(views[index, 0])
        enlarged = picture.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC)
        sheet.paste(enlarged, (left, top))
        middle = (left + PICTURE_PX // 2, top + PICTURE_PX)
        draw.text(middle, thing.name, fill="black", anchor="ma", font=font)
    sheet.quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    given = sys.argv[3:5]
    main(
        *sys.argv[1:3],
        scale=float(given[0]) if given else 3.0,
        seed=int(given[1]) if len(given) > 1 else 11,
    )
