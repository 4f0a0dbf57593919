"""Choose the image programs that this package carries, and write down why.

    python -m benchmarks.image_programs.accept [--programs 21000]

Programs 0, 1, 2, ... of the grammar are drawn in six views of 64 px and measured; those that are
flat, empty, grey, noisy, static, not finite or nearly equal to an earlier one are left out, until
so many are accepted. Writes prompts/programs/accepted.bin and benchmarks/results/
image_programs.parquet, which keeps the measures, so that other limits can be tried without drawing.
"""

import io
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import machine
from pipeline.renderers.image_programs.drawing import Viewport, draw, read_program
from prompts.programs.accepted import ACCEPTED_FILE
from prompts.programs.grammar import write_program

RESULTS = Path(__file__).parents[1] / "results" / "image_programs.parquet"
SIDE_PX = 64
VIEWPORTS = [
    Viewport(time=time, x=x, y=y, zoom=1.0)
    for time, x, y in (
        (0.5, 0.0, 0.0),
        (2.1, 0.3, -0.2),
        (3.9, -0.4, 0.1),
        (5.6, 0.2, 0.4),
        (7.4, -0.1, -0.4),
        (9.2, 0.4, 0.3),
    )
]
MIN_CONTRAST, MIN_VIEW_CONTRAST = 18.0, 8.0
"""Standard deviation of grey levels: mean over the views, and in each."""
MIN_FILLED = 0.5
"""Share of blocks of 8 x 8 px whose grey levels vary by more than 4."""
MIN_COLOURFULNESS = 18.0
MAX_BITS = 5.5
"""Bits of a pixel as JPEG of quality 75."""
MIN_CHANGE = 12.0
"""Mean distance between two views, in levels."""
MIN_DISTANCE = 14.0
"""From any earlier program: root mean square of levels of the views at 8 x 8 px."""


def measure(views: NDArray[np.uint8]) -> dict[str, float]:
    """Measures of one program's views, [6, 64, 64, 3]."""
    values = views.astype(np.float32)
    grey = values @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    blocks = grey.reshape(len(views), 8, 8, 8, 8).std(axis=(2, 4))
    red_green = values[..., 0] - values[..., 1]
    yellow_blue = (values[..., 0] + values[..., 1]) / 2 - values[..., 2]
    # Hasler and Suesstrunk, Measuring colourfulness in natural images, 2003.
    colourfulness = np.hypot(red_green.std(), yellow_blue.std()) + 0.3 * np.hypot(
        red_green.mean(), yellow_blue.mean()
    )
    num_bits = 0
    for view in views[:2]:
        buffer = io.BytesIO()
        Image.fromarray(view).save(buffer, "jpeg", quality=75)
        num_bits += 8 * len(buffer.getvalue())
    return {
        "contrast": float(grey.std(axis=(1, 2)).mean()),
        "view_contrast": float(grey.std(axis=(1, 2)).min()),
        "filled": float((blocks > 4).mean()),
        "colourfulness": float(colourfulness),
        "bits": num_bits / 2 / SIDE_PX**2,
        "change": float(np.abs(values - np.roll(values, 1, axis=0)).mean()),
    }


def reason(measures: dict[str, float]) -> str:
    """Why a program is left out; empty if it is not."""
    if measures["contrast"] < MIN_CONTRAST or measures["view_contrast"] < MIN_VIEW_CONTRAST:
        return "flat"
    if measures["filled"] < MIN_FILLED:
        return "empty"
    if measures["colourfulness"] < MIN_COLOURFULNESS:
        return "grey"
    if measures["bits"] > MAX_BITS:
        return "noisy"
    if measures["change"] < MIN_CHANGE:
        return "static"
    return ""


@click.command(help=__doc__)
@click.option("--programs", default=21_000, show_default=True)
def main(programs: int) -> None:
    print(machine.describe())
    torch.set_num_threads(1)
    small = np.empty((programs, len(VIEWPORTS) * 8 * 8 * 3), dtype=np.float32)
    rows, num_accepted = [], 0
    while num_accepted < programs:
        index = len(rows)
        program = read_program(write_program(index))
        pixels, finite = draw(program, VIEWPORTS, SIDE_PX, torch.device("cpu"))
        views = pixels.numpy()
        row = {"index": index, **measure(views), "distance": float("inf")}
        why = "" if bool(finite.all()) else "not finite"
        why = why or reason(row)
        if not why:
            means = views.reshape(-1, 8, 8, 8, 8, 3).mean(axis=(2, 4), dtype=np.float32).ravel()
            if num_accepted:
                squared = np.square(small[:num_accepted] - means).mean(axis=1)
                row["distance"] = float(np.sqrt(squared.min()))
            if row["distance"] < MIN_DISTANCE:
                why = "nearly equal"
            else:
                small[num_accepted] = means
                num_accepted += 1
        rows.append({**row, "reason": why})
        if len(rows) % 2000 == 0:
            print(f"{len(rows):,} drawn, {num_accepted:,} accepted", flush=True)
    bits = np.array([not row["reason"] for row in rows])
    ACCEPTED_FILE.write_bytes(np.packbits(bits).tobytes())
    table = pa.Table.from_pylist(rows)
    narrow = [
        pa.field(f.name, pa.float32() if pa.types.is_floating(f.type) else f.type)
        for f in table.schema
    ]
    pq.write_table(table.cast(pa.schema(narrow)), RESULTS, compression="zstd")
    reasons, counts = np.unique([row["reason"] for row in rows], return_counts=True)
    for name, count in zip(reasons, counts, strict=True):
        print(f"{name or 'accepted'}: {count:,} ({100 * count / len(rows):.1f} %)")


if __name__ == "__main__":
    main()
