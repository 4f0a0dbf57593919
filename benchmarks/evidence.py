"""What the method is worth on the embedded model, beside its baselines, with three seeds.

    python -m benchmarks.evidence --work DIR [--seeds 0,1,2] [--tables main,guidance,...]

Every seed has sets that were rendered with it and runs that were trained with it. Encoders are
scored on drawings of artists whom neither generator nor encoder has seen (PROTOCOLS says how), and
on real pictures of other kinds. Every training takes 200 steps of 120 crops on one core with one of
the recipes `demo*`, unless the label of the cell says otherwise. Sets, runs and scores are kept in
DIR, so the same command continues a benchmark that was stopped. Take another DIR for another
version of the code: what is in DIR is not made again.
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
from benchmarks.transfer_sets import write_transfer_set
from manifests.shard_set import ShardSet
from pipeline.config import load_config as load_generation
from pipeline.embedded.captions import draw_descriptions
from pipeline.embedded.pictograms import NUM_NEIGHBOURS, write_pictograms
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
CROPS, STEPS = 120, 5
RECIPES = {
    "stablerep": "demo",
    "stablerep-plus": "demo-plus",
    "simclr": "demo-simclr",
    "clip": "demo-clip",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How an encoder is scored."""

    on: str
    """Folder of the labelled set: `pictograms`, or a name of `benchmarks.transfer_sets`."""
    learn: str
    """Split that the classifier learns from."""
    test: str
    evaluation: str


PROTOCOLS = {
    "k-NN": Protocol(on="pictograms", learn="bank", test="test", evaluation="knn"),
    "linear": Protocol(on="pictograms", learn="bank", test="test", evaluation="linear"),
    "one-shot": Protocol(on="pictograms", learn="test-shot", test="test", evaluation="knn"),
    "hard, k-NN": Protocol(on="pictograms", learn="bank", test="hard", evaluation="knn"),
    "hard, one-shot": Protocol(on="pictograms", learn="hard-shot", test="hard", evaluation="knn"),
    "digits": Protocol(on="digits", learn="train", test="test", evaluation="knn"),
    "mnist": Protocol(on="mnist", learn="train", test="test", evaluation="knn"),
    "photographs": Protocol(on="photographs", learn="train", test="test", evaluation="knn"),
}
"""The first three are in every table; all are in the table `main`."""
NUM_SHORT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One line of a table: what is trained on what, or an encoder that is not trained."""

    table: str
    label: str
    objective: str = "stablerep"
    captions: int = 0
    """Number of captions: the first ones of a list of 996; 0 for the 249 of the embedded list."""
    views: int = 6
    guidance: float = 3.0
    views_per_step: int = 6
    real: bool = False
    """Whether it is trained on the 5,976 real drawings of the training artists."""
    steps: int = 0
    """Steps of training; 0 for the 200 of the recipe."""
    encoder: str = ""
    """An encoder that is not trained: `untrained`, or `pixels:16`. Empty for one that is."""


CELLS = (
    Cell(table="main", label="StableRep+, 6 views", objective="stablerep-plus"),
    Cell(table="main", label="CLIP, the same views", objective="clip"),
    Cell(table="main", label="StableRep, 6 views"),
    Cell(table="main", label="SimCLR, the same views", objective="simclr"),
    Cell(table="main", label="SimCLR, real training drawings", objective="simclr", real=True),
    Cell(table="main", label="random encoder", encoder="untrained"),
    Cell(table="main", label="raw pixels", encoder="pixels:16"),
    *(Cell(table="guidance", label=f"{w:g}", guidance=w) for w in (1, 2, 3, 4, 6, 8)),
    *(Cell(table="views of a step", label=f"{m}", views_per_step=m) for m in (2, 3, 6)),
    *(
        Cell(table="images per caption", label=f"{views}", views=views, views_per_step=2)
        for views in (2, 3, 6, 12)
    ),
    *(
        Cell(table="captions", label=f"{count}", captions=count)
        for count in (62, 124, 249, 498, 996)
    ),
    Cell(table="captions", label="996, four times the steps", captions=996, steps=1000),
    *(
        Cell(
            table="1,494 images",
            label=f"{captions} captions x {1494 // captions}",
            captions=captions,
            views=1494 // captions,
            views_per_step=min(1494 // captions, 6),
        )
        for captions in (747, 498, 249, 83)
    ),
)


def captions_file(work: Path, count: int) -> Path:
    """File of the embedded list for a count of 0, else of the first `count` of 996 other captions.

    A short list is the beginning of a longer one: what is compared is the number of captions.
    """
    if count == 0:
        return Path(EMBEDDED_LIST)
    path = work / f"captions-{count}.txt"
    drawn = draw_descriptions(np.random.default_rng(11), 996)[:count]
    path.write_text("".join(f"{description.caption()}\n" for description in drawn))
    return path


def rendered(work: Path, cell: Cell, seed: int) -> str:
    """URL of the set of a cell, which is rendered and sealed if it does not exist yet."""
    url = work / f"set-{cell.captions}-{cell.views}-{cell.guidance:g}-{seed}"
    flags = {
        "prompts.file": str(captions_file(work, cell.captions)),
        "views.per_subject": cell.views,
        "renderer.guidance": (cell.guidance,),
        "views.seed": seed,
        "renderer.steps": STEPS,
        "renderer.batch_size": 64,
        "shards.subjects": 62,
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
    """Folder of the run of a cell, which is trained unless it is finished already.

    Cells of different tables that train the same share one run.
    """
    parts = (cell.objective, cell.captions, cell.views, f"{cell.guidance:g}", cell.views_per_step)
    name = "-".join(map(str, parts)) if not cell.real else "simclr-real"
    out = work / f"run-{name}-{seed}{f'-{cell.steps}' if cell.steps else ''}"
    is_simclr = cell.objective == "simclr"
    url = f"wds:{work / 'pictograms' / 'train'}" if cell.real else rendered(work, cell, seed)
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
    """Top-1 and top-5 in percent by the name of the protocol."""
    if cell.encoder.startswith("pixels"):
        name = cell.encoder
    elif cell.encoder:
        # `untrained:` takes the tower from a run; the run of the default cell is trained anyway.
        name = f"untrained:{trained(work, Cell(table='', label=''), seed)}"
    else:
        name = str(trained(work, cell, seed))
    encoder = open_encoder(
        name, device=torch.device("cpu"), seed=seed if cell.encoder == "untrained" else None
    )
    settings = {"knn": {"neighbours": NUM_NEIGHBOURS}}
    scores = {}
    for label, protocol in PROTOCOLS.items():
        chosen = protocol.evaluation
        document = score_encoder(
            encoder,
            open_labelled(f"wds:{work / protocol.on}"),
            choose_evaluations([chosen], settings if chosen == "knn" else {}),
            train_split=protocol.learn,
            test_split=protocol.test,
            batch_size=256,
        )
        assert document is not None
        (entry,) = document["scores"]
        scores[label] = [100 * entry["accuracy"], 100 * (entry["top5"] or 0)]
    return scores


def show(cells: Sequence[Cell], scores: dict[str, dict[str, Any]], seeds: Sequence[int]) -> str:
    """The tables as Markdown: mean ± standard deviation over the seeds, then the mean top-5."""
    lines: list[str] = []
    for table in dict.fromkeys(cell.table for cell in cells):
        names = list(PROTOCOLS) if table == "main" else list(PROTOCOLS)[:NUM_SHORT]
        lines += ["", f"| {' | '.join([table, *names])} |", f"|{'---|' * (1 + len(names))}"]
        for cell in (cell for cell in cells if cell.table == table):
            of_seeds = [scores[key] for seed in seeds if (key := _key(cell, seed)) in scores]
            if of_seeds:
                texts = [_spread([row[name] for row in of_seeds]) for name in names]
                lines.append(f"| {' | '.join([cell.label, *texts])} |")
    return "\n".join(lines)


def _spread(values: Sequence[Sequence[float]]) -> str:
    first = [top1 for top1, _ in values]
    spread = f" ± {statistics.stdev(first):.1f}" if len(first) > 1 else ""
    return (
        f"{statistics.mean(first):.1f}{spread}; {statistics.mean(five for _, five in values):.1f}"
    )


def _key(cell: Cell, seed: int) -> str:
    # Without table and label, so that equal cells of two tables are scored once.
    values = {key: value for key, value in asdict(cell).items() if key not in ("table", "label")}
    return json.dumps([values, seed], sort_keys=True)


def _order(cells: Iterable[Cell], seeds: Sequence[int]) -> list[tuple[Cell, int]]:
    """All cells of the first seed, then of the next: whole tables can be read early."""
    return [(cell, seed) for seed in seeds for cell in cells]


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", default="0,1,2")
@click.option("--tables", default=",".join(dict.fromkeys(cell.table for cell in CELLS)))
def main(work: Path, seeds: str, tables: str) -> None:
    """Train and score the cells that have no score yet, and print the tables."""
    torch.set_num_threads(1)
    described = machine.describe()
    print(described)
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    write_pictograms(work / "pictograms")
    for name in {protocol.on for protocol in PROTOCOLS.values()} - {"pictograms"}:
        write_transfer_set(name, work / name)
    kept = work / "scores.json"
    scores: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    table_names = tables.split(",")
    cells = [cell for cell in CELLS if cell.table in table_names]
    seed_numbers = [int(text) for text in seeds.split(",")]
    for cell, seed in _order(cells, seed_numbers):
        if _key(cell, seed) not in scores:
            scores[_key(cell, seed)] = score(work, cell, seed)
            kept.write_text(json.dumps(scores, indent=1))
            print(
                f"seed {seed}, {cell.table}, {cell.label}: {scores[_key(cell, seed)]}", flush=True
            )
    text = show(cells, scores, seed_numbers)
    print(text)
    # Only a full benchmark replaces the results that README.md quotes.
    is_full = table_names == list(dict.fromkeys(cell.table for cell in CELLS))
    if is_full and len(seed_numbers) >= 3:
        RESULTS.parent.mkdir(exist_ok=True)
        document = {"machine": described, "tables": text.splitlines(), "scores": scores}
        RESULTS.write_text(f"{json.dumps(document, indent=1)}\n")


if __name__ == "__main__":
    main()
