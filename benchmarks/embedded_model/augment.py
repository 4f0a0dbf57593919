"""Small random motions of glyphs, so that nothing is trained on one picture twice."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

MAX_TURN = np.deg2rad(5)
MAX_LOG_SCALE = 0.08
MAX_SHIFT_PX = 0.4


def jitter_glyphs(rng: np.random.Generator, ink: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn, scale and shift each glyph a little: [glyphs, 8, 8] from 0 to 1, to the same."""
    count, size = len(ink), ink.shape[-1]
    turn = rng.uniform(-MAX_TURN, MAX_TURN, count)
    scale = np.exp(rng.uniform(-MAX_LOG_SCALE, MAX_LOG_SCALE, (2, count)))
    shift = rng.uniform(-MAX_SHIFT_PX, MAX_SHIFT_PX, (2, count)) * 2 / size  # of a side of 2
    affine = np.stack(
        [
            np.stack([np.cos(turn) * scale[0], -np.sin(turn) * scale[0], shift[0]], -1),
            np.stack([np.sin(turn) * scale[1], np.cos(turn) * scale[1], shift[1]], -1),
        ],
        axis=1,
    )
    values = torch.from_numpy(ink)[:, None]
    grid = F.affine_grid(torch.from_numpy(affine), list(values.shape), align_corners=False)
    moved = F.grid_sample(values, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return moved[:, 0].clamp(0, 1).numpy()  # bicubic overshoots at sharp edges
