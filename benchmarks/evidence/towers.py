"""The tower of the demo beside towers that timm has for pictures of 32 px.

    python -m benchmarks.evidence.towers --work DIR [--seeds 0,1,2]

All learn StableRep from the set of the demo, 200 steps of 120 crops on one core, at the rate of the
recipe and at a higher one. `select` is the split to choose a tower on: artists that the generator
was trained on, in other poses. The other columns are the unseen artist. Then bare steps of every
tower are timed in turn.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.captions import arm, batch, prepare
from benchmarks.evidence.harness import Arm, Benchmark, command
from benchmarks.step_speed import bare
from trainer.config import load_config
from trainer.data.opening import open_source
from trainer.planning import make_plan
from trainer.recipes import find_recipe

RESULTS = Path(__file__).parents[1] / "results" / "evidence_towers.json"
PROTOCOLS = ("select, k-NN", "k-NN", "linear", "one-shot")
RATES = (0.003, 0.01)
ROUNDS, STEPS = 5, 10
_RESIDUAL: Mapping[str, Any] = {"stem_type": "", "stem_width": 32}
"""Arguments of `resnet10t`: a stem of one convolution, as a picture of 32 px has room for."""
TOWERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "synth_small_conv": ("synth_small_conv", {}),
    "resnet10t, to 4 cells of 256": (
        "resnet10t",
        {**_RESIDUAL, "channels": [32, 64, 128, 256], "output_stride": 8},
    ),
    "resnet10t, to 4 cells of 128": (
        "resnet10t",
        {**_RESIDUAL, "channels": [32, 64, 128, 128], "output_stride": 8},
    ),
    "convnext_atto, 4 blocks": (
        "convnext_atto",
        {"patch_size": 2, "depths": [1, 1, 1, 1], "dims": [32, 64, 128, 256], "kernel_sizes": 3},
    ),
}


def tower(name: str) -> tuple[str, ...]:
    """What the recipe changes for a tower."""
    model, args = TOWERS[name]
    keys = [f"model.args.{key}={json.dumps(value)}" for key, value in args.items()]
    return (f'model.model="{model}"', *keys)


ARMS = tuple(
    arm(
        "tower",
        f"{name}, rate {rate:g}",
        train=(*batch(6), *tower(name), f"optimizer.lr_per_256={rate}"),
    )
    for name in TOWERS
    for rate in RATES
)


def show(benchmark: Benchmark, arms: Sequence[Arm], seeds: Sequence[int]) -> str:
    """Scores of the arms."""
    return benchmark.show(arms, seeds, PROTOCOLS)


def step_times(benchmark: Benchmark, seeds: Sequence[int]) -> str:
    """Seconds of a bare step of each tower, and beside the first: median of rounds in turn."""
    first_rate = [one for one in ARMS if one.label.endswith(f"rate {RATES[0]:g}")]
    plans = []
    for one in first_rate:
        overrides = [*one.train, f"run.seed={seeds[0]}"]
        config = load_config(recipe=find_recipe(one.recipe), overrides=overrides, flags={})
        plans.append(make_plan(config, open_source(benchmark.rendered(one, seeds[0])), world=1))
    rounds = [[bare(plan, STEPS) for plan in plans] for _ in range(ROUNDS)]
    lines = ["", "| tower | step, s | beside the first |", "|---|---|---|"]
    for number, name in enumerate(TOWERS):
        seconds = statistics.median(times[number] for times in rounds)
        ratios = [times[number] / times[0] for times in rounds]
        lines.append(
            f"| {name} | {seconds:.3f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return "\n".join(["", *lines])


main = command(
    ARMS, PROTOCOLS, RESULTS, show=show, prepare=prepare, finish=step_times, help=__doc__
)

if __name__ == "__main__":
    main()
