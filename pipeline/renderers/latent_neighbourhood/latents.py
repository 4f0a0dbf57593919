"""Anchors and their neighbours: pure functions of seeds. Arrays are float64, [dimensions].

Source: Jahanian et al., Generative Models as a Data Source for Multiview Representation Learning
(GenRep), arXiv:2106.05258, section 3.2.
"""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Latent = NDArray[np.float64]

_NORMAL = NormalDist()


def draw(rng: np.random.Generator, size: int, *, truncation: float) -> Latent:
    """Standard normal numbers; each is within +-truncation where that is above 0.

    A normal cut at 2, as GenRep and BigGAN have it, has a standard deviation of 0.880.
    """
    if truncation == 0:
        return rng.standard_normal(size)
    # By the inverse of the distribution, so that one number is drawn for each dimension.
    low, high = _NORMAL.cdf(-truncation), _NORMAL.cdf(truncation)
    shares = low + (high - low) * rng.random(size)
    return np.array([_NORMAL.inv_cdf(share) for share in shares])


def gaussian(
    rng: np.random.Generator, anchor: Latent, sigma: float, *, truncation: float
) -> Latent:
    """The anchor plus sigma times a latent. The sum is not cut again, as in the authors' code."""
    return anchor + sigma * draw(rng, len(anchor), truncation=truncation)


def mixed(rng: np.random.Generator, anchor: Latent, sigma: float) -> Latent:
    """sqrt(1 - sigma^2) of the anchor plus sigma of another latent, so that variance stays 1.

    For the noise of diffusion models, which expect that variance. A sigma of 1 is independent.
    """
    noise: Latent = np.sqrt(1 - sigma**2) * anchor + sigma * rng.standard_normal(len(anchor))
    return noise


def angular(rng: np.random.Generator, anchor: Latent, degrees: float) -> Latent:
    """The anchor turned by an angle into a random direction; its length stays."""
    length = np.linalg.norm(anchor)
    along = anchor / length
    other = rng.standard_normal(len(anchor))
    other -= (other @ along) * along
    other /= np.linalg.norm(other)
    angle = np.deg2rad(degrees)
    turned: Latent = length * (np.cos(angle) * along + np.sin(angle) * other)
    return turned
