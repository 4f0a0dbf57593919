"""Plots of a benchmark: lines or levels, with the spread over the seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#b07aa1")


def plot_lines(
    path: Path,
    places: Sequence[float],
    lines: Mapping[str, Sequence[Sequence[Sequence[float]]]],
    floor: Sequence[Sequence[float]],
    *,
    x: str,
    y: str,
    logarithmic: bool = False,
) -> None:
    """Draw top-1 over places.

    Args:
        lines: For each line and place, top-1 and top-5 of every seed.
        floor: The same of an encoder that was not trained; empty for none.
    """
    import matplotlib  # only here, because it is not among what tests install

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.4, 3.4), dpi=130)
    for colour, (label, values) in zip(COLOURS, lines.items(), strict=False):
        means = [np.mean([top1 for top1, _ in seeds]) for seeds in values]
        spreads = [
            np.std([top1 for top1, _ in seeds], ddof=min(1, len(seeds) - 1)) for seeds in values
        ]
        axes.errorbar(
            places, means, yerr=spreads, label=label, color=colour, marker="o", markersize=4,
            capsize=2, linewidth=1.4,
        )  # fmt: skip
    if floor:
        level = float(np.mean([top1 for top1, _ in floor]))
        axes.axhline(level, color="#888888", linestyle="--", linewidth=1, label="random encoder")
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def plot_levels(
    path: Path,
    levels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    *,
    x: str,
) -> None:
    """Draw top-1 of some encoders, one above the other, with a mark for each protocol.

    Args:
        levels: For each encoder and protocol, top-1 and top-5 of every seed.
    """
    import matplotlib  # only here, because it is not among what tests install

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 0.36 * len(levels) + 0.9), dpi=130)
    protocols = list(next(iter(levels.values())))
    places = np.arange(len(levels))[::-1]
    for number, (protocol, colour) in enumerate(zip(protocols, COLOURS, strict=False)):
        values = [[top1 for top1, _ in level[protocol]] for level in levels.values()]
        axes.errorbar(
            [np.mean(seeds) for seeds in values],
            places + 0.18 * (len(protocols) / 2 - number - 0.5),
            xerr=[np.std(seeds, ddof=min(1, len(seeds) - 1)) for seeds in values],
            label=protocol, color=colour, marker="o", markersize=4, capsize=2, linestyle="none",
        )  # fmt: skip
    axes.set_yticks(places, list(levels))
    axes.set_xlim(left=0)
    axes.set_xlabel(x)
    axes.grid(axis="x", alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
