"""Few-shot episodes: which classes and images each one learns from, and what its queries say.

Episodes are drawn from train alone. Which test images are queries of an episode follows from its
classes and the test labels, and is known to the one who scores, not to the classifier.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trainer.classifiers import Interval, wilson_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """Small tasks of classification."""

    classes: Int[Tensor, "episodes ways"]
    """Labels to tell apart."""
    support: Int[Tensor, "episodes ways shots"]
    """Rows of train to learn each of them from."""
    num_eligible: int
    """Classes that were drawn from: those with enough groups."""


def draw_episodes(
    labels: Int[Tensor, " images"],
    groups: Int[Tensor, " images"],
    *,
    ways: int,
    shots: int,
    episodes: int,
    seed: int,
) -> Episodes | None:
    """Episodes of `ways` classes with `shots` images each, of `shots` different groups.

    Classes are drawn without replacement in an episode and anew for the next one, and so are the
    groups of a class and one image of each group. The global random state is not touched.

    Args:
        labels: Of train.
        groups: Images of one group depict one physical thing, so that two of them are one shot.

    Returns:
        None if fewer than `ways` classes have `shots` groups.
    """
    rows_of: dict[int, dict[int, list[int]]] = {}
    for row, (label, group) in enumerate(zip(labels.tolist(), groups.tolist(), strict=True)):
        rows_of.setdefault(label, {}).setdefault(group, []).append(row)
    eligible = [
        (label, list(of_class.values()))
        for label, of_class in sorted(rows_of.items())
        if len(of_class) >= shots
    ]
    if len(eligible) < ways:
        return None
    generator = torch.Generator().manual_seed(seed)

    def pick(count: int, among: int) -> list[int]:
        numbers: list[int] = torch.randperm(among, generator=generator)[:count].tolist()
        return numbers

    classes, support = [], []
    for _ in range(episodes):
        drawn = [eligible[position] for position in pick(ways, len(eligible))]
        classes.append([label for label, _ in drawn])
        support.append(
            [
                [
                    of_class[group][pick(1, len(of_class[group]))[0]]
                    for group in pick(shots, len(of_class))
                ]
                for _, of_class in drawn
            ]
        )
    return Episodes(
        classes=torch.tensor(classes),
        support=torch.tensor(support),
        num_eligible=len(eligible),
    )


def episode_accuracy(
    predicted: Int[Tensor, "images episodes"],
    classes: Int[Tensor, "episodes ways"],
    labels: Int[Tensor, " images"],
) -> Float[Tensor, " episodes"]:
    """Accuracy of each episode on the images of its classes, each class counted alike.

    Classes without an image do not count; an episode without a query is NaN.
    """
    accuracy = []
    for episode, ways in enumerate(classes.tolist()):
        hit = (predicted[:, episode] == labels).double()
        by_class = [hit[labels == label].mean() for label in ways]
        accuracy.append(torch.stack(by_class).nanmean())
    return torch.stack(accuracy)


def episode_interval(accuracy: Float[Tensor, " episodes"]) -> Interval:
    """Mean over episodes with its 95 % interval, p +- 1.96 s / sqrt(E), kept inside 0 and 1.

    It is Wilson's interval for as many independent trials as leave the same uncertainty; if all
    episodes agree there are as many trials as episodes. Episodes share the test images, so it
    tells how far the draws of classes and shots matter, and not how far the test images do.
    """
    num_episodes, p = len(accuracy), float(accuracy.mean())
    variance = float(accuracy.var(correction=1)) / num_episodes if num_episodes > 1 else 0.0
    size = p * (1 - p) / variance if variance > 0 else float(num_episodes)
    return wilson_interval(p, size)
