"""Periodic textures that the fields of programs look up: made once, from fixed random numbers.

Each covers PERIOD x PERIOD units of the plane and repeats beyond it. A lookup costs one operation
whatever the field is, where adding octaves or searching neighbours for every pixel costs dozens.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PERIOD = 8
SIDE = 512
"""Pixels along a period."""
_SEED = 20231121
NAMES = ("noise", "fbm", "ridges", "cells", "edges", "cell", "leaves")


@cache
def texture(name: str, device: str) -> Tensor:
    """A texture with values from 0 to 1, [1, 1, SIDE + 1, SIDE + 1]: the first row comes again."""
    values = _TEXTURES[name]()
    low, high = np.quantile(values, [0.005, 0.995])
    values = ((values - low) / (high - low)).clip(0, 1)
    wrapped = np.pad(values, (0, 1), mode="wrap").astype(np.float32)
    return torch.from_numpy(wrapped)[None, None].to(device)


def _value_noise(rng: np.random.Generator, cells: int) -> NDArray[np.float64]:
    """Random values at the corners of cells x cells squares, joined by cubic curves."""
    corners = rng.random((cells, cells))
    place = np.arange(SIDE) * cells / SIDE
    whole = np.floor(place).astype(int)
    part = place - whole
    weights = []
    for offset in (-1, 0, 1, 2):  # of a uniform cubic B-spline
        distance = np.abs(part - offset)
        near = (4 - 6 * distance**2 + 3 * distance**3) / 6
        weights.append(np.where(distance < 1, near, (2 - distance).clip(0) ** 3 / 6))
    matrix = np.zeros((SIDE, cells))
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        np.add.at(matrix, (np.arange(SIDE), (whole + offset) % cells), weight)
    noise: NDArray[np.float64] = matrix @ corners @ matrix.T
    noise -= noise.mean()
    return noise


def _octaves(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    return [_value_noise(rng, 2 * PERIOD * 2**octave) / 2**octave for octave in range(4)]


def _noise() -> NDArray[np.float64]:
    return _value_noise(np.random.default_rng([_SEED, 0]), 2 * PERIOD)


def _fbm() -> NDArray[np.float64]:
    clouds: NDArray[np.float64] = np.sum(_octaves(np.random.default_rng([_SEED, 1])), axis=0)
    return clouds


def _ridges() -> NDArray[np.float64]:
    octaves = _octaves(np.random.default_rng([_SEED, 2]))
    veins: NDArray[np.float64] = -np.sum([np.abs(octave) for octave in octaves], axis=0)
    return veins


def _around(x: float, y: float, radius: float) -> tuple[Any, NDArray[np.float64]]:
    """Index of the pixels of a square around a place, and their distances from it."""
    place = np.arange(SIDE) * PERIOD / SIDE
    across, down = (np.abs((place - at + PERIOD / 2) % PERIOD - PERIOD / 2) for at in (x, y))
    rows, columns = (np.flatnonzero(distance <= radius) for distance in (down, across))
    return np.ix_(rows, columns), np.hypot(down[rows][:, None], across[columns][None])


@cache
def _voronoi() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Distances to the nearest and the second nearest of scattered points, and whose it is."""
    rng = np.random.default_rng([_SEED, 3])
    count = (2 * PERIOD) ** 2
    corner = np.stack(np.meshgrid(range(2 * PERIOD), range(2 * PERIOD)), -1).reshape(-1, 2)
    points = (corner + rng.random((count, 2))) / 2
    first = np.full((SIDE, SIDE), np.inf)
    second, owner = first.copy(), np.zeros((SIDE, SIDE))
    for (x, y), value in zip(points, rng.permutation(count) / count, strict=True):
        near, distance = _around(x, y, 1.0)  # no second nearest point is farther
        nearer = distance < first[near]
        second[near] = np.where(nearer, first[near], np.minimum(second[near], distance))
        owner[near] = np.where(nearer, value, owner[near])
        first[near] = np.minimum(first[near], distance)
    return first, second, owner


def _leaves() -> NDArray[np.float64]:
    """Discs of all sizes thrown on each other: the dead leaves model, the top one at each place.

    Source: Lee, Mumford and Huang, Occlusion models for natural images, IJCV 2001.
    """
    rng = np.random.default_rng([_SEED, 4])
    values = np.zeros((SIDE, SIDE))
    for _ in range(1500):
        x, y = rng.uniform(0, PERIOD, 2)
        radius = 0.12 / (1 - rng.random() * 0.99) ** 0.5
        near, distance = _around(x, y, radius)
        values[near] = np.where(distance < radius, rng.random(), values[near])
    return values


_TEXTURES = {
    "noise": _noise,
    "fbm": _fbm,
    "ridges": _ridges,
    "cells": lambda: _voronoi()[0],
    "edges": lambda: _voronoi()[1] - _voronoi()[0],
    "cell": lambda: _voronoi()[2],
    "leaves": _leaves,
}
