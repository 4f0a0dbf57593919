"""Draw a contact sheet of image programs: 10 x 10 of those that the package carries.

python -m benchmarks.image_programs.contact_sheet OUT.png [FIRST]
"""

import sys

import numpy as np
import torch
from PIL import Image

from pipeline.renderers.image_programs.drawing import Viewport, draw, read_program
from prompts.programs.accepted import program_text

ROWS, SIDE_PX, GAP_PX = 10, 96, 4
VIEWPORT = Viewport(time=3.0, x=0.0, y=0.0, zoom=1.0)


def main(path: str, first: int) -> None:
    """Write the sheet as a PNG file."""
    side = SIDE_PX + GAP_PX
    sheet = np.full((ROWS * side - GAP_PX, ROWS * side - GAP_PX, 3), 255, dtype=np.uint8)
    for index in range(ROWS * ROWS):
        program = read_program(program_text(first + index))
        pixels, _ = draw(program, [VIEWPORT], SIDE_PX, torch.device("cpu"))
        top, left = (side * place for place in divmod(index, ROWS))
        sheet[top : top + SIDE_PX, left : left + SIDE_PX] = pixels[0].numpy()
    Image.fromarray(sheet).quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
