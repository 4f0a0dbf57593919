"""A picture of many views: a label for each row, a heading for each column."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from manifests.foundation.messages import printable, shortened

TILE_PX = 144
"""Longer side of a view in the sheet, about: small views are enlarged by a whole number."""
MAX_WIDTH_PX = 4096
MIN_TILE_PX = 32
MAX_LABEL_CHARS = 120
LABEL_PX = 190
"""Width of the labels of the rows."""
_MARGIN_PX, _GAP_PX, _LINE_PX = 20, 8, 19
_PAPER, _INK, _QUIET, _FAULT = "#ffffff", "#1d1d1f", "#6e6e73", "#b3261e"


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """One row of a sheet."""

    label: str
    note: str = ""
    """Shown below the label, in grey."""
    tiles: Sequence[NDArray[np.uint8] | str]
    """RGB pixels [height, width, 3] of each view, or why there are none."""


def contact_sheet(headings: Sequence[str], rows: Sequence[SheetRow], *, footer: str = "") -> bytes:
    """The sheet as a PNG.

    Characters that the font of the sheet lacks, which is Latin, show as boxes.

    Args:
        headings: One for each column; a row may have fewer tiles.
        footer: A line below the rows.
    """
    tile_px = max(MIN_TILE_PX, min(TILE_PX, (MAX_WIDTH_PX - LABEL_PX) // len(headings) - _GAP_PX))
    pictures = [[_scaled(tile, tile_px) for tile in row.tiles] for row in rows]
    drawn = [tile for line in pictures for tile in line if isinstance(tile, Image.Image)]
    # Columns are as wide as their views: not all are square, and their sizes may differ.
    column_px = max([tile.width for tile in drawn], default=tile_px)
    font, small = ImageFont.load_default(15), ImageFont.load_default(13)
    heads = [_wrapped(heading, small, column_px) for heading in headings]
    labels = [_wrapped(shortened(row.label, MAX_LABEL_CHARS), font, LABEL_PX - 14) for row in rows]
    notes = [_wrapped(row.note, small, LABEL_PX - 14) if row.note else [] for row in rows]
    heights = [
        max(
            [tile.height for tile in line if isinstance(tile, Image.Image)]
            + [len([*label, *note]) * _LINE_PX, tile_px // 2]
        )
        for line, label, note in zip(pictures, labels, notes, strict=True)
    ]
    head_px = max(map(len, heads)) * _LINE_PX + 4
    width = 2 * _MARGIN_PX + LABEL_PX + len(headings) * (column_px + _GAP_PX) - _GAP_PX
    foot = _wrapped(footer, small, width - 2 * _MARGIN_PX) if footer else []
    height = 2 * _MARGIN_PX + head_px + sum(heights) + _GAP_PX * len(rows) + len(foot) * _LINE_PX
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [_MARGIN_PX + LABEL_PX + n * (column_px + _GAP_PX) for n in range(len(headings))]
    for left, lines in zip(lefts, heads, strict=True):
        top = _MARGIN_PX + head_px - 4 - len(lines) * _LINE_PX
        _write(draw, (left, top), lines, small, _QUIET)
    top = _MARGIN_PX + head_px
    for line, label, note, row_px in zip(pictures, labels, notes, heights, strict=True):
        middle = top + (row_px - len([*label, *note]) * _LINE_PX) // 2
        _write(draw, (_MARGIN_PX, middle), label, font, _INK)
        _write(draw, (_MARGIN_PX, middle + len(label) * _LINE_PX), note, small, _QUIET)
        for left, tile in zip(lefts, line, strict=False):
            if isinstance(tile, Image.Image):
                sheet.paste(tile, (left, top))
                continue
            draw.rectangle((left, top, left + column_px - 1, top + row_px - 1), outline=_FAULT)
            _write(draw, (left + 6, top + 6), _wrapped(tile, small, column_px - 12), small, _FAULT)
        top += row_px + _GAP_PX
    _write(draw, (_MARGIN_PX, top + 2), foot, small, _QUIET)
    buffer = io.BytesIO()
    sheet.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _scaled(tile: NDArray[np.uint8] | str, tile_px: int) -> Image.Image | str:
    if isinstance(tile, str):
        return tile
    picture = Image.fromarray(tile)
    longer = max(picture.size)
    if longer <= tile_px:  # by a whole number, so that each pixel stays a square
        factor = tile_px // longer
        return picture.resize(
            (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
        )
    picture.thumbnail((tile_px, tile_px), Image.Resampling.LANCZOS)
    return picture


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """Lines of at most so many pixels; a word that is longer is broken."""
    lines = [""]
    for word in printable(text).split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    lines: Sequence[str],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: str,
) -> None:
    for number, line in enumerate(lines):
        draw.text((place[0], place[1] + number * _LINE_PX), line, fill=colour, font=font)
