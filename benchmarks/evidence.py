"""What the method is worth on the embedded model, beside its baselines, with three seeds.

    python -m benchmarks.evidence --work DIR [--seeds 0,1,2] [--tables main,guidance,...]

Each seed renders its own sets and trains with its own seed. Encoders are scored on the `report`
half of the real held-out handwriting, by k-NN (k = 20) and by the linear probe. Every training has
250 steps of 128 crops on one core, with the recipes `demo*`; what differs is in the table. Sets and
scores in DIR are kept: the same command goes on where it stopped. For another version of the code
take another DIR.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks import machine
from manifests.shard_set import ShardSet
from pipeline.config import load_config as load_generation
from pipeline.embedded import world
from pipeline.embedded.paintings import NUM_NEIGHBOURS, write_paintings
from pipeline.generating import begin, finish, run
from prompts.lists import EMBEDDED_LIST
from trainer.config import load_config as load_training
from trainer.data.opening import open_source
from trainer.evaluations import choose_evaluations
from trainer.frozen_encoders import open_encoder
from trainer.labelled_sets import open_labelled
from trainer.loop import train
from trainer.planning import make_plan
from trainer.recipes import find_recipe
from trainer.scoring import score_encoder

RESULTS = Path(__file__).parent / "results" / "evidence.json"
CROPS = 128
RECIPES = {
    "stablerep": "demo",
    "stablerep-plus": "demo-plus",
    "simclr": "demo-simclr",
    "clip": "demo-clip",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One line of a table."""

    table: str
    label: str
    objective: str = "stablerep"
    captions: int = 0
    """0 for the 96 of the embedded list, else the first so many of another list."""
    views: int = 8
    guidance: float = 4.0
    views_per_step: int = 8
    real: bool = False
    """Trained on the real training images, 5,032 paintings of 1,258 glyphs."""
    steps: int = 0
    """Of training; 0 for the 250 of the recipe."""
    encoder: str = ""
    """Not trained: `untrained` or `pixels:8`, the size at which the world is drawn."""


CELLS = (
    Cell(table="main", label="StableRep+, 8 views", objective="stablerep-plus"),
    Cell(table="main", label="CLIP, the same views", objective="clip"),
    Cell(table="main", label="StableRep, 8 views"),
    Cell(table="main", label="SimCLR, the same views", objective="simclr"),
    Cell(table="main", label="SimCLR, real training images", objective="simclr", real=True),
    Cell(table="main", label="random encoder", encoder="untrained"),
    Cell(table="main", label="raw pixels", encoder="pixels:8"),
    *(Cell(table="guidance", label=f"{w:g}", guidance=w) for w in (1, 2, 3, 4, 6, 8)),
    *(Cell(table="views of a step", label=f"{m}", views_per_step=m) for m in (2, 4, 8)),
    *(
        Cell(table="images per caption", label=f"{views}", views=views, views_per_step=2)
        for views in (2, 4, 8, 16)
    ),
    *(Cell(table="captions", label=f"{count}", captions=count) for count in (24, 48, 96, 192, 384)),
    Cell(table="captions", label="384, four times the steps", captions=384, steps=1000),
    *(
        Cell(
            table="768 images",
            label=f"{768 // views} captions x {views}",
            captions=768 // views,
            views=views,
            views_per_step=min(views, 8),
            objective="stablerep" if views > 1 else "simclr",
        )
        for views in (1, 2, 4, 8, 16)
    ),
)


def captions_file(work: Path, count: int) -> Path:
    """The embedded list, or the first so many of one list of 768 others."""
    if count == 0:
        return Path(EMBEDDED_LIST)
    path = work / f"captions-{count}.txt"
    drawn = world.draw_descriptions(np.random.default_rng(11), 768)[:count]
    path.write_text("".join(f"{each.caption()}\n" for each in drawn))
    return path


def rendered(work: Path, cell: Cell, seed: int) -> str:
    """URL of the set of a cell, rendered if it is not there yet."""
    url = work / f"set-{cell.captions}-{cell.views}-{cell.guidance:g}-{seed}"
    flags = {
        "prompts.file": str(captions_file(work, cell.captions)),
        "views.per_subject": cell.views,
        "renderer.guidance": (cell.guidance,),
        "views.seed": seed,
        "renderer.steps": 8,
        "renderer.batch_size": 48,
        "shards.subjects": 48,
        "execution.executor": "inline",
    }
    if not (url / "dataset.json").exists():
        config = load_generation(recipe=None, overrides=[], flags=flags)
        generation = begin(config, str(url), retry_failed=False, origin="evidence")
        for _ in run(generation):
            pass
        finish(generation, seal_incomplete=False)
    assert ShardSet.open(str(url)).seal() is not None
    return str(url)


def trained(work: Path, cell: Cell, seed: int) -> Path:
    """The run of a cell."""
    parts = (cell.objective, cell.captions, cell.views, f"{cell.guidance:g}", cell.views_per_step)
    name = "-".join(map(str, parts)) if not cell.real else "simclr-real"
    out = work / f"run-{name}-{seed}{f'-{cell.steps}' if cell.steps else ''}"
    is_simclr = cell.objective == "simclr"
    url = f"wds:{work / 'handwriting' / 'train'}" if cell.real else rendered(work, cell, seed)
    overrides = [f"run.seed={seed}"]
    if not is_simclr:
        overrides += [
            f"batch.groups={CROPS // cell.views_per_step}",
            f"batch.views_per_group={cell.views_per_step}",
        ]
    recipe = find_recipe(RECIPES[cell.objective])
    flags = {"schedule.steps": cell.steps or None}
    config = load_training(recipe=recipe, overrides=overrides, flags=flags)
    source = open_source(url)
    plan = make_plan(config, source, world=1)
    assert train(plan, out, device=torch.device("cpu"))
    return out


def score(work: Path, cell: Cell, seed: int) -> dict[str, Any]:
    """k-NN and linear accuracy on the `report` half, in percent."""
    if cell.encoder == "pixels:8":
        name = cell.encoder
    elif cell.encoder:
        name = f"untrained:{trained(work, Cell(table='', label=''), seed)}"
    else:
        name = str(trained(work, cell, seed))
    encoder = open_encoder(
        name, device=torch.device("cpu"), seed=seed if cell.encoder == "untrained" else None
    )
    evaluations = choose_evaluations(["knn", "linear"], {"knn": {"neighbours": NUM_NEIGHBOURS}})
    document = score_encoder(
        encoder,
        open_labelled(f"wds:{work / 'handwriting'}"),
        evaluations,
        test_split="report",
        batch_size=256,
    )
    assert document is not None
    return {each["name"]: 100 * each["accuracy"] for each in document["scores"]}


def show(cells: Sequence[Cell], scores: dict[str, dict[str, Any]], seeds: Sequence[int]) -> str:
    """The tables as Markdown: mean ± standard deviation over the seeds."""
    lines: list[str] = []
    for table in dict.fromkeys(cell.table for cell in cells):
        lines += ["", f"| {table} | k-NN | linear |", "|---|---|---|"]
        for cell in (each for each in cells if each.table == table):
            found = [scores[key] for seed in seeds if (key := _key(cell, seed)) in scores]
            if not found:
                continue
            texts = [_spread([each[kind] for each in found]) for kind in ("knn", "linear")]
            lines.append(f"| {cell.label} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def _key(cell: Cell, seed: int) -> str:
    values = {key: each for key, each in asdict(cell).items() if key not in ("table", "label")}
    if not cell.steps:
        del values["steps"]
    return json.dumps([values, seed], sort_keys=True)


def _order(cells: Iterable[Cell], seeds: Sequence[int]) -> list[tuple[Cell, int]]:
    """Seed by seed, so that what is there first is a whole table."""
    return [(cell, seed) for seed in seeds for cell in cells]


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", default="0,1,2")
@click.option("--tables", default=",".join(dict.fromkeys(cell.table for cell in CELLS)))
def main(work: Path, seeds: str, tables: str) -> None:
    """Train and score what is missing, and print the tables."""
    torch.set_num_threads(1)
    described = machine.describe()
    print(described)
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    write_paintings(work / "handwriting")
    kept = work / "scores.json"
    scores: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    wanted = tables.split(",")
    cells = [cell for cell in CELLS if cell.table in wanted]
    numbers = [int(each) for each in seeds.split(",")]
    for cell, seed in _order(cells, numbers):
        if _key(cell, seed) not in scores:
            scores[_key(cell, seed)] = score(work, cell, seed)
            kept.write_text(json.dumps(scores, indent=1))
            print(
                f"seed {seed}, {cell.table}, {cell.label}: {scores[_key(cell, seed)]}", flush=True
            )
    text = show(cells, scores, numbers)
    print(text)
    if wanted == list(dict.fromkeys(cell.table for cell in CELLS)) and len(numbers) >= 3:
        RESULTS.parent.mkdir(exist_ok=True)
        document = {"machine": described, "tables": text.splitlines(), "scores": scores}
        RESULTS.write_text(f"{json.dumps(document, indent=1)}\n")


if __name__ == "__main__":
    main()
