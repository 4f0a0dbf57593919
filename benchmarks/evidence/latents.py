"""GenRep on the embedded generator: how far views are from their anchor, and in which way.

    python -m benchmarks.evidence.latents --work DIR [--seeds 0,1,2] [--table sigma ...]

Every set has 6,000 images; every training takes 1,000 steps of 60 pairs on one core. Encoders are
scored on drawings of artists whom neither generator nor encoder has seen, and on handwriting. Draws
docs/latents_evidence.png.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.harness import Arm, Benchmark, command, settings
from benchmarks.evidence.plots import plot_lines

RESULTS = Path(__file__).parents[1] / "results" / "evidence_latents.json"
PLOT = Path(__file__).parents[2] / "docs" / "latents_evidence.png"
NAMES = ("k-NN", "linear", "one-shot", "hard, k-NN", "hard, one-shot", "digits")
SIGMAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
CLASSES = 249
"""Things that the embedded generator draws when it is told which."""
STEPS = ("schedule.steps=1000", "schedule.warmup_steps=100", "run.checkpoint_every=1000")


def views(
    anchors: int = 1500, *, count: int = 4, classes: int = 0, **keys: Any
) -> tuple[tuple[str, Any], ...]:
    """So many views of each anchor. Anchors have a class if there are classes."""
    return settings(
        renderer__name="latent-neighbourhood",
        prompts__source="anchors",
        prompts__count=anchors,
        **({"prompts__classes": classes} if classes else {}),
        views__per_subject=count,
        **{f"renderer__{key}": value for key, value in keys.items()},
    )


def arm(table: str, label: str, recipe: str = "demo-latents", **keys: Any) -> Arm:
    return Arm(table=table, label=label, recipe=recipe, **{"train": STEPS, **keys})


ARMS = (
    *(arm("sigma", f"{sigma:g}", views=views(sigma=[sigma])) for sigma in SIGMAS),
    *(
        arm("sigma, with a class", f"{sigma:g}", views=views(sigma=[sigma], classes=CLASSES))
        for sigma in SIGMAS
    ),
    arm("views", "gaussian, sigma 0.5", views=views(sigma=[0.5])),
    arm("views", "angular, 27 degrees", views=views(neighbourhood="angular", angle=[27.0])),
    arm("views", "independent", views=views(neighbourhood="independent")),
    # Six directions, so six views of each anchor.
    arm("views", "steering", views=views(1000, count=6, neighbourhood="steering")),
    *(
        arm("anchors x views", f"{anchors:,} x {6000 // anchors}",
            views=views(anchors, count=6000 // anchors, sigma=[0.5]))
        for anchors in (300, 750, 1500, 3000)
    ),
    *(
        arm("anchors of 4 views", f"{anchors:,}", views=views(anchors, sigma=[0.5]))
        for anchors in (375, 1500, 6000)
    ),
    arm("others", "SimCLR, the same images", "demo-simclr", views=views(sigma=[0.5])),
    arm(
        "others",
        "SupCon of classes, sigma 0.5",
        views=views(sigma=[0.5], classes=CLASSES),
        train=(
            "objective={name='supcon',head_hidden=128,head_out=64}",
            "batch.groups=60",
            "batch.views_per_group=2",
            "optimizer.lr_per_256=0.003",
            *STEPS,
        ),
        recipe="demo-base",
    ),
    arm("others", "SimCLR, real drawings", "demo-simclr"),
    arm(
        "others",
        "inverter",
        views=views(sigma=[0.5], keep_latents=True),
        train=(
            "objective={name='inverter',latent_dim=96,hidden=512}",
            "batch.groups=120",
            "batch.views_per_group=1",
            *STEPS,
        ),
        recipe="demo-base",
    ),
    Arm(table="others", label="random encoder", recipe="demo-simclr", encoder="untrained:"),
    Arm(table="others", label="raw pixels", encoder="pixels:16"),
)  # fmt: skip


def finish(benchmark: Benchmark, seeds: Sequence[int]) -> str:
    """Draw the plot."""
    lines = {
        f"{name}{table.removeprefix('sigma')}": [
            benchmark.of(a, seeds, name) for a in ARMS if a.table == table
        ]
        for name in ("k-NN", "linear")
        for table in ("sigma", "sigma, with a class")
    }
    plot_lines(PLOT, SIGMAS, lines, [], x="sigma", y="unseen artist, top-1, %")
    return ""


def show(benchmark: Benchmark, arms: Sequence[Arm], seeds: Sequence[int]) -> str:
    """All tables by all protocols."""
    return benchmark.show(arms, seeds, NAMES)


main = command(ARMS, NAMES, RESULTS, show=show, finish=finish, help=__doc__)

if __name__ == "__main__":
    main()
