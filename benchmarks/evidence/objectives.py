"""Every objective on the same views, and those of labels on real drawings as a ceiling.

    python -m benchmarks.evidence.objectives --work DIR [--seeds 0,1,2]

Encoders are scored on drawings of artists whom neither generator nor encoder has seen, and on real
pictures of other kinds. Every training takes 200 steps of 120 crops on one core with one of the
recipes `demo*`. Draws docs/objectives_evidence.png.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.evidence.captions import arm, batch, prepare
from benchmarks.evidence.harness import Arm, Benchmark, command
from benchmarks.evidence.plots import plot_levels

RESULTS = Path(__file__).parents[1] / "results" / "evidence_objectives.json"
PLOT = Path(__file__).parents[2] / "docs" / "objectives_evidence.png"
PROTOCOLS = (
    "k-NN",
    "linear",
    "one-shot",
    "hard, k-NN",
    "hard, one-shot",
    "digits",
    "mnist",
    "photographs",
)
SHOWN = ("one-shot", "k-NN", "linear")
SAME_COLOURS = ("augment.jitter_prob=0.0", "augment.grey_prob=0.0")
"""As in the recipe demo: the other views of a caption have other colours already."""
ARMS = (
    arm("objectives", "StableRep", train=batch(6)),
    arm("objectives", "StableRep+", "demo-plus", train=batch(6)),
    arm("objectives", "CLIP", "demo-clip", train=batch(6)),
    arm("objectives", "SimCLR", "demo-simclr"),
    arm("objectives", "BYOL", "demo-simclr", train=("objective.name=byol",)),
    arm(
        "objectives",
        "MoCo, a queue of 1,200",
        "demo-simclr",
        train=("objective.name=moco", "objective.queue=1200"),
    ),
    arm(
        "objectives",
        "cross-entropy of labels",
        "demo-programs-ce",
        train=(*batch(6), *SAME_COLOURS, "objective.classes=labels"),
    ),
    arm("objectives", "SimCLR, real drawings", "demo-simclr", views=()),
    arm(
        "objectives",
        "SupCon of labels, real drawings",
        "demo-simclr",
        views=(),
        train=("objective.name=supcon", "objective.crops=2"),
    ),
    arm(
        "objectives",
        "cross-entropy of labels, real drawings",
        "demo-programs-ce",
        views=(),
        train=("objective.classes=labels",),
    ),
    Arm(table="objectives", label="random encoder", recipe="demo-simclr", encoder="untrained:"),
    Arm(table="objectives", label="raw pixels", encoder="pixels:16"),
)
"""SupCon on the views is left out: each caption is a label of its own, so it is StableRep."""


def show(benchmark: Benchmark, arms: Sequence[Arm], seeds: Sequence[int]) -> str:
    """All protocols."""
    return benchmark.show(arms, seeds, PROTOCOLS)


def finish(benchmark: Benchmark, seeds: Sequence[int]) -> str:
    """Draw the plot."""
    levels = {arm.label: {name: benchmark.of(arm, seeds, name) for name in SHOWN} for arm in ARMS}
    plot_levels(PLOT, levels, x="unseen artist, top-1, %")
    return ""


main = command(ARMS, PROTOCOLS, RESULTS, show=show, prepare=prepare, finish=finish, help=__doc__)

if __name__ == "__main__":
    main()
