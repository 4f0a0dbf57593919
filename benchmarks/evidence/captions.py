"""What StableRep on the embedded model owes to its set: guidance, captions and images.

    python -m benchmarks.evidence.captions --work DIR [--seeds 0,1,2] [--table captions ...]

Encoders are scored on drawings of an artist whom neither generator nor encoder has seen. Every
training takes 200 steps of 120 crops on one core with the recipe `demo`, unless the label of an
arm says otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.harness import Arm, Benchmark, command, settings
from pipeline.embedded.captions import draw_descriptions
from prompts.lists import EMBEDDED_LIST

RESULTS = Path(__file__).parents[1] / "results" / "evidence_captions.json"
PROTOCOLS = ("k-NN", "linear", "one-shot")
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


ARMS = (
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
    """The tables that were asked for."""
    return benchmark.show(arms, seeds, PROTOCOLS)


main = command(ARMS, PROTOCOLS, RESULTS, show=show, prepare=prepare, help=__doc__)

if __name__ == "__main__":
    main()
