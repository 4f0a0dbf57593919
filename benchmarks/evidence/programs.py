"""Shaders21k on the programs of this package: how many programs, which objective, mixed or not.

    python -m benchmarks.evidence.programs --work DIR [--seeds 0,1,2] [--table programs ...]

Images grow along with programs, 24 views of each. A training takes 1,000 steps of 120 crops on
one core, and in one table 5,000. Encoders are scored on real pictures: drawings of an unseen
artist, handwriting, and patches of photographs, told apart by their source image. Also prints the
slope of accuracy over the logarithm of the number of programs, with a 95 % interval over the seeds,
and draws docs/programs_evidence.png.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.harness import Arm, Benchmark, command, settings
from benchmarks.evidence.plots import plot_lines

RESULTS = Path(__file__).parents[1] / "results" / "evidence_programs.json"
PLOT = Path(__file__).parents[2] / "docs" / "programs_evidence.png"
NAMES = (
    "k-NN",
    "linear",
    "one-shot",
    "digits",
    "digits, linear",
    "photographs",
    "photographs, linear",
)
COUNTS = (10, 30, 100, 300, 1000, 3000)
STEPS = ("schedule.steps=1000", "schedule.warmup_steps=100", "run.checkpoint_every=1000")
FIVE_TIMES = ("schedule.steps=5000", "schedule.warmup_steps=500", "run.checkpoint_every=1000")
"""Of how many programs each step sees ten: 3,000 are seen three times in 1,000 steps."""


def views(count: int, mix: int = 1) -> tuple[tuple[str, Any], ...]:
    """24 views of each of the first programs."""
    return settings(
        renderer__name="image-programs",
        renderer__size_px=40,
        renderer__mix=[mix],
        prompts__source="programs",
        prompts__count=count,
        views__per_subject=24,
    )


KINDS = ("contrast of programs", "SupCon of programs", "cross-entropy")
CONTRAST = ("batch.groups=10", "batch.views_per_group=12")
RECIPES = {
    "contrast of programs": ("demo-programs", CONTRAST),
    "SupCon of programs": (
        "demo-programs",
        (
            "objective.name=supcon",
            "objective.crops=2",
            "batch.groups=10",
            "batch.views_per_group=6",
        ),
    ),
    "cross-entropy": ("demo-programs-ce", ("batch.groups=10", "batch.views_per_group=12")),
    "SimCLR": ("demo-simclr", ()),
}


def arm(
    table: str, label: str, kind: str, count: int, mix: int = 1, steps: Sequence[str] = STEPS
) -> Arm:
    recipe, train = RECIPES[kind]
    return Arm(
        table=table, label=label, recipe=recipe, train=(*train, *steps), views=views(count, mix)
    )


ARMS = (
    *(arm(kind, f"{count} programs", kind, count) for kind in KINDS for count in COUNTS),
    *(
        arm("five times the steps", f"{kind}, {count} programs", kind, count, steps=FIVE_TIMES)
        for kind in ("contrast of programs", "cross-entropy")
        for count in (100, 3000)
    ),
    *(
        arm(
            "mixed, 1,000 programs",
            f"{kind}, {'six mixed' if mix > 1 else 'alone'}",
            kind,
            1000,
            mix,
        )
        for kind in ("contrast of programs", "SimCLR")
        for mix in (1, 6)
    ),
    Arm(
        table="others",
        label="SimCLR, real drawings",
        recipe="demo-simclr",
        train=STEPS,
    ),
    Arm(table="others", label="random encoder", recipe="demo-simclr", encoder="untrained:"),
    Arm(table="others", label="raw pixels", encoder="pixels:16"),
)


def slopes(benchmark: Benchmark, seeds: Sequence[int]) -> str:
    """Points of accuracy for ten times as many programs, by least squares, for each objective."""
    lines = ["", f"| points for ten times the programs | {' | '.join(NAMES)} |"]
    lines.append(f"|{'---|' * (1 + len(NAMES))}")
    for kind in KINDS:
        cells = []
        for name in NAMES:
            of_seeds = []
            for seed in seeds:
                values = [benchmark.of(a, [seed], name) for a in ARMS if a.table == kind]
                if all(values):
                    logs = np.log10(COUNTS)
                    of_seeds.append(float(np.polyfit(logs, [v[0][0] for v in values], 1)[0]))
            if len(of_seeds) > 1:
                # Student's t for two or more seeds: 95 % of the distribution.
                wide = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}[len(of_seeds)]
                half = wide * float(np.std(of_seeds, ddof=1)) / len(of_seeds) ** 0.5
                cells.append(f"{np.mean(of_seeds):.1f} ± {half:.1f}")
            else:
                cells.append(" ".join(f"{value:.1f}" for value in of_seeds))
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def finish(benchmark: Benchmark, seeds: Sequence[int]) -> str:
    """Draw the plot, and say how steep its lines are."""
    lines = {
        kind: [benchmark.of(a, seeds, "photographs") for a in ARMS if a.table == kind]
        for kind in KINDS
    }
    floor = benchmark.of(ARMS[-2], seeds, "photographs")
    plot_lines(PLOT, COUNTS, lines, floor, x="programs", y="photographs, k-NN, %", logarithmic=True)
    return "\n" + slopes(benchmark, seeds)


def show(benchmark: Benchmark, arms: Sequence[Arm], seeds: Sequence[int]) -> str:
    """All tables by all protocols."""
    return benchmark.show(arms, seeds, NAMES)


main = command(ARMS, NAMES, RESULTS, show=show, finish=finish, help=__doc__)

if __name__ == "__main__":
    main()
