"""Learn directions of a generator's latents that edit its pictures, such as zoom.

For each edit a vector w is learned with which G(z + a w) looks like edit(G(z), a), for amounts a
from -1 to 1; places that the edit brings in from outside of the picture are not compared.

Source: Jahanian, Chai and Isola, arXiv:1907.07171, equation 2; GenRep, arXiv:2106.05258, section
3.2. There the ranges are wider, as pictures of 128 px and more allow.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.renderers.latent_neighbourhood.generators import Generator
from pipeline.renderers.latent_neighbourhood.steering import (
    MAX_BRIGHTNESS,
    MAX_HUE,
    MAX_SHIFT,
    MAX_TURN,
    MAX_ZOOM,
)

Edit = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Pictures [n, 3, side, side] from 0 to 1 and amounts [n] to edited pictures, and a mask
[n, 1, side, side] of the places that can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """One direction, and how much of its edit it does."""

    vector: Tensor
    """[latent_dim]."""
    error: float
    """Mean squared difference from the edited pictures, on latents that were not learned from."""
    error_without: float
    """The same for a step of length 0."""

    @property
    def explained(self) -> float:
        """Share of the edit that the direction does: 1 is all of it, below 0 is harm."""
        return 1 - self.error / self.error_without if self.error_without else 0.0


def _move(matrix: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures seen through [n, 2, 3] matrices from places of the result to those of the input."""
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    inside = (grid.abs() <= 1).all(dim=-1)[:, None].to(pictures.dtype)
    return moved, inside


def _matrix(a: Tensor, rows: Sequence[Sequence[Tensor | float]]) -> Tensor:
    full = [torch.stack([torch.as_tensor(v).expand_as(a).to(a) for v in row], -1) for row in rows]
    return torch.stack(full, dim=1)


def _zoom(pictures: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    scale = MAX_ZOOM**-a
    return _move(_matrix(a, [[scale, 0.0, 0.0], [0.0, scale, 0.0]]), pictures)


def _shift_x(pictures: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    return _move(_matrix(a, [[1.0, 0.0, -2 * MAX_SHIFT * a], [0.0, 1.0, 0.0]]), pictures)


def _shift_y(pictures: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    return _move(_matrix(a, [[1.0, 0.0, 0.0], [0.0, 1.0, -2 * MAX_SHIFT * a]]), pictures)


def _rotate(pictures: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    angle = a * math.radians(MAX_TURN)
    cos, sin = angle.cos(), angle.sin()
    return _move(_matrix(a, [[cos, -sin, 0.0], [sin, cos, 0.0]]), pictures)


def _brightness(pictures: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    brighter = (pictures + MAX_BRIGHTNESS * a[:, None, None, None]).clamp(0, 1)
    return brighter, torch.ones_like(pictures[:, :1])


def _hue(pictures: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    # A turn around the axis of greys, by Rodrigues' formula.
    angle = (a * math.radians(MAX_HUE))[:, None, None, None]
    mean = pictures.mean(dim=1, keepdim=True)
    crossed = (pictures.roll(1, dims=1) - pictures.roll(-1, dims=1)) / math.sqrt(3)
    turned = pictures * angle.cos() + crossed * angle.sin() + mean * (1 - angle.cos())
    return turned.clamp(0, 1), torch.ones_like(pictures[:, :1])


EDITS: Mapping[str, Edit] = {
    "zoom": _zoom,
    "shift_x": _shift_x,
    "shift_y": _shift_y,
    "rotate": _rotate,
    "brightness": _brightness,
    "hue": _hue,
}
"""By the names of `steering.AMOUNTS`."""


def learn_directions(
    generator: Generator,
    names: Sequence[str],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Callable[[int], None] = lambda step: None,
) -> dict[str, Learned]:
    """Learn directions of a generator whose graph can be differentiated.

    Args:
        names: Of `EDITS`.
        progress: Called with the number of steps that are done.
    """
    rng = torch.Generator().manual_seed(seed)
    vectors = torch.zeros(len(names), generator.latent_dim, requires_grad=True)
    optimizer = torch.optim.Adam([vectors], lr=learning_rate)
    for step in range(steps):
        # Down to nothing: what is left at the end is no noise of the last batches.
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        loss, _, _ = _errors(generator, names, vectors, batch_size, rng)
        optimizer.zero_grad()
        loss.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(step + 1)
    sums = torch.zeros(3, len(names))
    with torch.no_grad():
        for _ in range(max(512 // batch_size, 1)):
            error, without, which = _errors(generator, names, vectors, batch_size, rng)
            sums[0].index_add_(0, which, error)
            sums[1].index_add_(0, which, without)
            sums[2].index_add_(0, which, torch.ones_like(error))
    return {
        name: Learned(
            vector=vectors.detach()[index].clone(),
            error=float(sums[0, index] / sums[2, index]),
            error_without=float(sums[1, index] / sums[2, index]),
        )
        for index, name in enumerate(names)
    }


def _errors(
    generator: Generator, names: Sequence[str], vectors: Tensor, count: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Of new pictures: the error with and without a step, and the index of the edit; each [n]."""
    z = torch.randn(count, generator.latent_dim, generator=rng)
    amounts = torch.rand(count, generator=rng) * 2 - 1
    which = torch.arange(count) % len(names)
    classes = None
    if generator.num_classes:
        classes = torch.randint(generator.num_classes, (count,), generator=rng)
    with torch.no_grad():
        pictures = generator(z, classes)
        targets, masks = torch.empty_like(pictures), torch.empty_like(pictures[:, :1])
        for index, name in enumerate(names):
            rows = which == index
            targets[rows], masks[rows] = EDITS[name](pictures[rows], amounts[rows])
    moved = generator(z + amounts[:, None] * vectors[which], classes)

    def error(given: Tensor) -> Tensor:
        squared = ((given - targets).square() * masks).sum(dim=(1, 2, 3))
        return squared / (3 * masks.sum(dim=(1, 2, 3)).clamp(min=1))

    return error(moved), error(pictures), which
