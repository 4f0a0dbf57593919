"""StableRep on the embedded model, beside its baselines.

    python -m benchmarks.evidence.captions --work DIR [--seeds 0,1,2] [--table main ...]

Encoders are scored on drawings of artists whom neither generator nor encoder has seen, and on real
pictures of other kinds. Every training takes 200 steps of 120 crops on one core with one of the
recipes `demo*`, unless the label of an arm says otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.harness import Arm, Benchmark, command, settings
from pipeline.embedded.captions import draw_descriptions
from prompts.lists import EMBEDDED_LIST

RESULTS = Path(__file__).parents[1] / "results" / "evidence_captions.json"
ALL = (
    "k-NN",
    "linear",
    "one-shot",
    "hard, k-NN",
    "hard, one-shot",
    "digits",
    "mnist",
    "photographs",
)
SHORT = ("k-NN", "linear", "one-shot")
CROPS = 120
RENDERER_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "default: 5 steps, exact, float32": {},
    "speed = fast": {"speed": "fast"},
    "dtype = bfloat16": {"dtype": "bfloat16"},
    "guidance_interval = [0.2, 0.8]": {"guidance_interval": [0.2, 0.8]},
    "feature_cache = 2": {"feature_cache": 2},
    "feature_cache = 2, 10 steps": {"feature_cache": 2, "steps": 10},
    "steps = 3": {"steps": 3},
    "steps = 8": {"steps": 8},
}


def views(
    captions: int = 0, *, guidance: float = 3.0, count: int = 6, **more: Any
) -> tuple[tuple[str, Any], ...]:
    """A set of the embedded model: of the list that is shipped, or the first of 996 others."""
    renderer: dict[str, Any] = {"guidance": [guidance], "steps": 5, "batch_size": 64, **more}
    return settings(
        prompts__file=f"captions-{captions}.txt" if captions else EMBEDDED_LIST.name,
        views__per_subject=count,
        **{f"renderer__{key}": value for key, value in renderer.items()},
    )


def batch(views_per_group: int) -> tuple[str, ...]:
    """CROPS crops a step, so many of each caption."""
    return (
        f"batch.groups={CROPS // views_per_group}",
        f"batch.views_per_group={views_per_group}",
    )


def arm(table: str, label: str, recipe: str = "demo", **keys: Any) -> Arm:
    """An arm on the default set, unless the keys say otherwise."""
    return Arm(table=table, label=label, recipe=recipe, **{"views": views(), **keys})


SAME_COLOURS = ("augment.jitter_prob=0.0", "augment.grey_prob=0.0")
"""As in the recipe demo: the other views of a caption have other colours already."""
OBJECTIVES = (
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
"""Every objective on the same views, and those of labels on real drawings as a ceiling. SupCon on
the views is left out: each caption of the list is a label of its own, so it is StableRep."""

ARMS = (
    *OBJECTIVES,
    arm("main", "StableRep+, 6 views", "demo-plus", train=batch(6)),
    arm("main", "CLIP, the same views", "demo-clip", train=batch(6)),
    arm("main", "StableRep, 6 views", train=batch(6)),
    arm("main", "SimCLR, the same views", "demo-simclr"),
    arm("main", "SimCLR, real training drawings", "demo-simclr", views=()),
    Arm(table="main", label="random encoder", recipe="demo-simclr", encoder="untrained:"),
    Arm(table="main", label="raw pixels", encoder="pixels:16"),
    *(
        arm("guidance", f"{w:g}", views=views(guidance=float(w)), train=batch(6))
        for w in (1, 2, 3, 4, 6, 8)
    ),
    *(arm("views of a step", f"{m}", train=batch(m)) for m in (2, 3, 6)),
    *(
        arm("images per caption", f"{m}", views=views(count=m), train=batch(2))
        for m in (2, 3, 6, 12)
    ),
    *(
        arm("captions", f"{count}", views=views(count), train=batch(6))
        for count in (62, 124, 249, 498, 996)
    ),
    arm(
        "captions",
        "996, five times the steps",
        views=views(996),
        train=(*batch(6), "schedule.steps=1000"),
    ),
    *(
        arm(
            "1494 images",
            f"{count} captions x {1494 // count}",
            views=views(count, count=1494 // count),
            train=batch(min(1494 // count, 6)),
        )
        for count in (747, 498, 249, 83)
    ),
    *(
        arm("option of the renderer", label, views=views(**options), train=batch(6))
        for label, options in RENDERER_OPTIONS.items()
    ),
)


def prepare(benchmark: Benchmark) -> None:
    """Write the lists of captions. A short one is the beginning of a longer one."""
    drawn = draw_descriptions(np.random.default_rng(11), 996)
    for count in (62, 83, 124, 249, 498, 747, 996):
        lines = "".join(f"{description.caption()}\n" for description in drawn[:count])
        (benchmark.work / f"captions-{count}.txt").write_text(lines)
    (benchmark.work / EMBEDDED_LIST.name).write_bytes(EMBEDDED_LIST.read_bytes())


def show(benchmark: Benchmark, arms: Sequence[Arm], seeds: Sequence[int]) -> str:
    """All protocols of the tables `main` and `objectives`, the first of the others."""
    main_arms = [arm for arm in arms if arm.table in ("main", "objectives")]
    others = [arm for arm in arms if arm.table not in ("main", "objectives")]
    return benchmark.show(main_arms, seeds, ALL) + "\n" + benchmark.show(others, seeds, SHORT)


main = command(ARMS, ALL, RESULTS, show=show, prepare=prepare, help=__doc__)

if __name__ == "__main__":
    main()
