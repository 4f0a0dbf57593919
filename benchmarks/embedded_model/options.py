"""What options of the renderer that change pixels do to the embedded model, beside their speed.

    python -m benchmarks.embedded_model.options JUDGES [--captions N]

JUDGES as for `benchmarks.embedded_model.gate`. Every option renders the same captions from the same
noise, one after the other in each seed; speed is a ratio to the default within the seed. Writes
benchmarks/results/renderer_options.json.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks import machine
from benchmarks.embedded_model.gate import VIEWS, render, score, test_captions
from benchmarks.embedded_model.judge import train_judge
from pipeline.models import EMBEDDED

RESULTS = Path(__file__).parents[1] / "results" / "renderer_options.json"
SCALE = 3.0
DEFAULT = {"steps": 5, "dtype": "float32"}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "default: 5 steps, exact, float32": {},
    "speed = fast": {"speed": "fast"},
    "dtype = bfloat16": {"dtype": "bfloat16"},
    "guidance_interval = [0.2, 1.0]": {"guidance_interval": (0.2, 1.0)},
    "guidance_interval = [0.0, 0.6]": {"guidance_interval": (0.0, 0.6)},
    "guidance_interval = [0.2, 0.8]": {"guidance_interval": (0.2, 0.8)},
    "feature_cache = 2": {"feature_cache": 2},
    "feature_cache = 2, 10 steps": {"feature_cache": 2, "steps": 10},
    "steps = 3": {"steps": 3},
    "steps = 4": {"steps": 4},
    "steps = 8": {"steps": 8},
}


@click.command(help=__doc__)
@click.argument("judges", type=click.Path(path_type=Path))
@click.option("--captions", default=100, show_default=True, help="A seed, each of 4 views.")
@click.option("--seeds", default=3, show_default=True)
def main(judges: Path, captions: int, seeds: int) -> None:
    torch.set_num_threads(1)
    described = machine.describe()
    print(described)
    figures: dict[str, list[list[float]]] = {name: [] for name in OPTIONS}
    for seed in range(seeds):
        judge = train_judge(judges / f"judge-{seed}", 0, seed)
        said, concept, ground = test_captions(captions, seed)
        usual = 0.0
        for name, option in OPTIONS.items():
            start = time.process_time()
            views = render(EMBEDDED, said, scale=SCALE, seed=seed, options=DEFAULT | option)
            rate = captions * VIEWS / (time.process_time() - start)
            usual = usual or rate
            figures[name].append([*score(judge, views, concept, ground), rate / usual])
    names = ("thing, top-1", "top-5", "ground", "diversity", "speed")
    print(f"| option | {' | '.join(names)} |\n|{'---|' * (1 + len(names))}")
    for name, rows in figures.items():
        mean, half = np.mean(rows, axis=0), np.ptp(rows, axis=0) / 2
        digits = (1, 1, 1, 2, 2)
        cells = [f"{m:.{d}f} ± {h:.{d}f}" for m, h, d in zip(mean, half, digits, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    document = {"machine": described, "captions": captions, "views": VIEWS, "guidance": SCALE}
    RESULTS.write_text(f"{json.dumps(document | {'figures': figures}, indent=1)}\n")


if __name__ == "__main__":
    main()
