"""What a step of each published recipe takes, from shapes alone: no data, no GPU, no training.

    python -m benchmarks.recipe_cost [RECIPE ...]

One step of the trainer is taken at full size without computing anything (`trainer.step_cost`): on
as many ranks as published, and on one GPU with 256 images in the towers at a time where the tower
can do that. Recipes that are named replace their rows in benchmarks/results/recipe_cost.json; the
table has all rows that are there.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import machine
from manifests.foundation.errors import ConfigError
from trainer.config import load_config
from trainer.data.sources import Demand, Group
from trainer.planning import Plan, make_plan
from trainer.recipes import FOLDER, find_recipe
from trainer.step_cost import StepCost, step_cost

RESULTS = Path(__file__).parent / "results" / "recipe_cost.json"

ROWS_AT_ONCE = 256
MAX_PARTS = 200
"""A step on one GPU in more parts is not worked out, as each takes about a second; with 256 images
at a time it is worked out for the published number of GPUs then."""

RANKS = {
    **dict.fromkeys(["stablerep", "simclr", "clip", "supcon", "cross", "synclr"], 32),
    "shaders21k-moco": 4,
}
"""GPUs by the name of a recipe or its first word: those of StableRep's command, which its baselines
share; of the command of SynCLR's PyTorch code; and of Shaders21k's large model."""

PUBLISHED = sorted(
    path.stem
    for path in FOLDER.glob("*.toml")
    if not path.stem.startswith("demo") and not path.stem.endswith("-base")
)


@dataclass(frozen=True, slots=True)
class Captions:
    """A source as large as the largest set of the papers, of which no group is ever read."""

    url: str = "shapes-alone"
    root: str = "0" * 64
    num_groups: int = 200_000_000
    num_left_out: int = 0
    classes: Sequence[str] = ()

    def stream(self, demand: Demand) -> "Captions":
        reads_labels = demand.reads & {"labels", "group_labels"}
        classes = [str(index) for index in range(1000)] if reads_labels else ()
        return dataclasses.replace(self, classes=classes)

    def groups(self, step: int, *, rank: int, world: int) -> list[Group]:
        raise AssertionError("a step from shapes alone reads no group")


def published_ranks(name: str) -> int:
    """GPUs of a recipe; 1 where its paper and its code do not say."""
    word = name.partition("-")[0]
    return RANKS.get(name) or RANKS.get(word) or 1


def row_of(name: str) -> dict[str, Any]:
    """What is recorded of a recipe: counts, and bytes of a rank."""
    world = published_ranks(name)
    whole = cost(name, world)
    row: dict[str, Any] = {
        "tower_parameters": whole.tower_parameters,
        "parameters": whole.parameters,
        "image_multiply_adds": whole.image_multiply_adds,
        "crops_a_step": plan_of(name, world).crops_per_step,
        "ranks": world,
        "rank_multiply_adds": whole.step_multiply_adds,
        "rank_peak_bytes": whole.peak_bytes,
    }
    is_large = row["crops_a_step"] > MAX_PARTS * ROWS_AT_ONCE
    try:
        cached = cost(name, world if is_large else 1, f"run.grad_cache={ROWS_AT_ONCE}")
    except ConfigError as exc:  # a tower with batch norms needs all rows at once
        return row | {"cached_refused": "batch norms", "cached_error": str(exc)}
    return row | {"cached_ranks": world if is_large else 1, "cached_peak_bytes": cached.peak_bytes}


def plan_of(name: str, world: int, *overrides: str) -> Plan:
    """The plan of a recipe on a source without a group to read."""
    config = load_config(recipe=find_recipe(name), overrides=overrides, flags={})
    return make_plan(config, Captions(), world=world, origin=name)


_known: dict[str, StepCost] = {}


def cost(name: str, world: int, *overrides: str) -> StepCost:
    """What a rank's step takes; recipes that differ in nothing of a step's shape share it."""
    plan = plan_of(name, world, *overrides)
    shape = {key: plan.identity[key] for key in ("objective", "model", "batch", "run")}
    shape |= {"optimizer": plan.config.optimizer.name, "world": world, "overrides": overrides}
    key = json.dumps(shape, sort_keys=True)
    if key not in _known:
        _known[key] = step_cost(plan, world=world)
    return _known[key]


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Markdown; recipes with equal numbers share a line."""
    lines = [
        "| recipe | tower, M | all, M | image, G | crops a step | GPUs "
        "| a GPU, GiB | 256 at a time, GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names: dict[tuple[str, ...], list[str]] = {}
    for name, row in sorted(rows.items()):
        cached = row.get("cached_peak_bytes", 0) / 2**30
        share = "" if row.get("cached_ranks", 1) == 1 else f" each of {row['cached_ranks']}"
        cells = (
            f"{row['tower_parameters'] / 1e6:.1f}",
            f"{row['parameters'] / 1e6:.0f}",
            f"{row['image_multiply_adds'] / 1e9:.2f}",
            f"{row['crops_a_step']:,}",
            str(row["ranks"]),
            f"{row['rank_peak_bytes'] / 2**30:.1f}",
            row.get("cached_refused") or f"{cached:.1f}{share}",
        )
        names.setdefault(cells, []).append(f"`{name}`")
    lines += [f"| {' | '.join([', '.join(same), *cells])} |" for cells, same in names.items()]
    return lines


@click.command()
@click.argument("recipes", nargs=-1)
def main(recipes: tuple[str, ...]) -> None:
    """Print one table of the published recipes; RECIPES are worked out anew, all by default."""
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    for name in recipes or PUBLISHED:
        document["rows"][name] = row_of(name)
        document["machine"] = machine.describe()
        RESULTS.write_text(f"{json.dumps(document, indent=2, sort_keys=True)}\n")
    print("\n".join([document["machine"], "", *table(document["rows"])]))


if __name__ == "__main__":
    main()
