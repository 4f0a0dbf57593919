"""Drawings of the same concepts by several artists: sprites of 64 px, and who may see which.

Three families are for training. `emojione-v1` is the test artist and `openmoji` the hard one: no
generator and no encoder is trained on their drawings. Licences are in `drawings/LICENCES.md`.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
TRAINING_FAMILIES = ("noto", "twemoji", "fluent-emoji-flat")
TEST_FAMILY = "emojione-v1"
HARD_FAMILY = "openmoji"
FAMILIES = (*TRAINING_FAMILIES, TEST_FAMILY, HARD_FAMILY)
SPRITE_PX = 64
ATLAS_COLUMNS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A thing that every family draws."""

    name: str
    synonyms: tuple[str, ...]
    """Other words for it, none of which names another concept."""
    group: str
    """What kind of thing it is, as a noun: a bird, a tool."""
    countable: bool
    """Whether it takes an article: a lemon, but bread."""
    code_point: str
    """Hexadecimal Unicode code point of the drawings."""


@cache
def concepts() -> tuple[Concept, ...]:
    """All concepts, in the order of their labels."""
    rows = json.loads((FOLDER / "concepts.json").read_text("utf-8"))
    return tuple(Concept(**{**row, "synonyms": tuple(row["synonyms"])}) for row in rows)


@cache
def sprites(family: str) -> NDArray[np.uint8]:
    """The drawings of one family in the order of the concepts, RGBA [concepts, 64, 64, 4]."""
    from PIL import Image

    with Image.open(FOLDER / "drawings" / f"{family}.webp") as atlas:
        pixels = np.asarray(atlas.convert("RGBA"))
    rows, columns = pixels.shape[0] // SPRITE_PX, ATLAS_COLUMNS
    blocks = pixels.reshape(rows, SPRITE_PX, columns, SPRITE_PX, 4).swapaxes(1, 2)
    return blocks.reshape(-1, SPRITE_PX, SPRITE_PX, 4)[: len(concepts())]
