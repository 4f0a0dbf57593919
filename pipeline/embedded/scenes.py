"""Pictures of the pictogram world: a drawing in some pose on a named, cluttered ground, 32 px.

What a caption may say is the concept and the ground; artist, pose and clutter are never named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.embedded.sprites import concepts, sprites

IMAGE_PX = 32
MIN_SCALE, MAX_SCALE = 0.62, 0.98
"""Side of the drawing over the side of the picture."""
MAX_SHIFT = 0.16
"""Of half a side of the picture."""
MAX_TURN = np.deg2rad(20)
COLOUR_JITTER = 12
"""Largest change of each channel of a ground, in levels of 255."""
NUM_BLOBS = 3
MAX_BLOB = 26
"""Largest change of each channel by a blob, in levels of 255."""

GROUNDS = {
    "black": (25, 25, 28),
    "grey": (128, 128, 130),
    "white": (240, 240, 240),
    "red": (205, 45, 45),
    "orange": (240, 140, 35),
    "yellow": (245, 220, 70),
    "green": (50, 150, 65),
    "cyan": (90, 205, 215),
    "blue": (45, 70, 200),
    "purple": (125, 50, 160),
    "pink": (245, 160, 195),
}
GROUND_NAMES = tuple(GROUNDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenes:
    """What pictures show, one row a picture."""

    concept: NDArray[np.int64]
    """Index into `concepts()`."""
    ground: NDArray[np.int64]
    """Index into GROUND_NAMES."""
    family: NDArray[np.int64]
    """Index into the families that the pictures were drawn from."""


def held_out_ground(concept: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ground on which the generator never sees a concept, so that the pair can be asked for."""
    return concept * 5 % len(GROUNDS)


def draw_scenes(
    rng: np.random.Generator, count: int, *, num_families: int, with_held_out: bool
) -> Scenes:
    """Concepts, grounds and families at random; `with_held_out` admits every such pair."""
    concept = rng.integers(len(concepts()), size=count)
    if with_held_out:
        ground = rng.integers(len(GROUNDS), size=count)
    else:
        other = rng.integers(1, len(GROUNDS), size=count)
        ground = (held_out_ground(concept) + other) % len(GROUNDS)
    family = rng.integers(num_families, size=count)
    return Scenes(concept=concept, ground=ground, family=family)


def paint(rng: np.random.Generator, scenes: Scenes, families: Sequence[str]) -> NDArray[np.uint8]:
    """Pictures of scenes, their poses and clutter drawn from `rng`: uint8 [n, 32, 32, 3]."""
    drawings = np.stack([sprites(family) for family in families])
    chosen = np.divide(drawings[scenes.family, scenes.concept], 255, dtype=np.float32)
    chosen[..., :3] *= chosen[..., 3:]  # what is transparent must not bleed into edges
    moved = _place(rng, chosen)
    ground = _clutter(rng, scenes.ground)
    pictures = moved[..., :3] + (1 - moved[..., 3:]) * ground
    levels: NDArray[np.uint8] = np.rint(pictures.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _place(rng: np.random.Generator, drawings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn, scale, shift and perhaps mirror drawings: [n, 64, 64, 4] -> [n, 32, 32, 4]."""
    import torch  # only here, so that `synth pictograms` refuses a folder without it
    from torch.nn import functional as F

    count = len(drawings)
    scale = rng.uniform(MIN_SCALE, MAX_SCALE, count)
    turn = rng.uniform(-MAX_TURN, MAX_TURN, count)
    shift = rng.uniform(-MAX_SHIFT, MAX_SHIFT, (count, 2))
    mirror = rng.choice([-1.0, 1.0], count)
    # From a place in the picture to the place in the drawing that is seen there.
    cos, sin = np.cos(turn) / scale, np.sin(turn) / scale
    turned = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], axis=1)
    offset = -np.einsum("nij,nj->ni", turned, shift)
    affine = np.concatenate([turned, offset[..., None]], axis=2).astype(np.float32)
    affine[:, 0] *= mirror[:, None]
    values = torch.from_numpy(drawings).permute(0, 3, 1, 2)
    grid = F.affine_grid(torch.from_numpy(affine), list(values.shape), align_corners=False)
    placed = F.grid_sample(values, grid, padding_mode="zeros", align_corners=False)
    # Twice the size of the picture until here, so that edges are smooth.
    smooth: NDArray[np.float32] = F.avg_pool2d(placed, 2).permute(0, 2, 3, 1).numpy()
    return smooth


def _clutter(rng: np.random.Generator, ground: NDArray[np.int64]) -> NDArray[np.float32]:
    """Grounds with soft blobs of somewhat other colours, [n] -> [n, 32, 32, 3] around 0 to 1."""
    count = len(ground)
    colour = np.array(list(GROUNDS.values()), dtype=np.float32)[ground]
    colour += rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, (count, 3))
    centre = rng.uniform(0, 1, (2, count, NUM_BLOBS, 1)).astype(np.float32)
    width = rng.uniform(0.12, 0.4, (count, NUM_BLOBS, 1)).astype(np.float32)
    change = rng.uniform(-MAX_BLOB, MAX_BLOB, (count, NUM_BLOBS, 3)).astype(np.float32)
    places = (np.arange(IMAGE_PX, dtype=np.float32) + 0.5) / IMAGE_PX
    down, along = np.exp(-0.5 * ((places - centre) / width) ** 2)  # each [n, blobs, 32]
    blobs = np.einsum("nby,nbx,nbc->nyxc", down, along, change, optimize=True)
    grounds: NDArray[np.float32] = (colour[:, None, None] + blobs) / np.float32(255)
    return grounds
