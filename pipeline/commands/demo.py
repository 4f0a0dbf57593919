"""`synth demo`: the whole job on the embedded model, each command shown before it runs."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

_ENCODERS = {
    "StableRep+": "stablerep-plus",
    "StableRep": "stablerep",
    "CLIP": "clip",
    "SimCLR": "simclr",
    "SimCLR, real drawings": "simclr-real",
    "random encoder": "untrained-stablerep",
    "raw pixels": "pixels-16",
}
"""Name in the table of each encoder that is scored, and of its score file."""
_SCORES = {
    "k-NN": ("transfer", "knn"),
    "linear probe": ("transfer", "linear"),
    "one-shot": ("one-shot", "knn"),
    "zero-shot": ("zero-shot", "zero-shot"),
}
"""Columns of the table: folder of score files, and the evaluation in them."""


@click.command()
@click.option("--out", default="demo", show_default=True, help="Folder of everything it makes.")
@click.option("--executor", default="ray", show_default=True, help="ray or inline.")
def demo(out: str, executor: str) -> None:
    """Captions to scores: generate, verify, train, evaluate and report, in a few minutes.

    249 captions x 6 views are rendered by the embedded model; StableRep and its rivals learn from
    them or from real drawings; all are scored on drawings of an artist whom neither the generator
    nor an encoder has seen.
    """
    from manifests.foundation.errors import ConfigError
    from manifests.foundation.files import local_path
    from prompts.lists import EMBEDDED_LIST

    start = time.monotonic()
    folder = local_path(out, option="--out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"--out {folder}: cannot be made ({exc.strerror}); give another") from exc

    def quoted(name: str) -> str:
        """Path of a file or folder in `--out`, as it stands in a command line."""
        return shlex.quote(str(folder / name))

    def train(recipe: str, name: str, url: str) -> str:
        return f"train {url} --out {quoted(name)} --recipe {recipe}"

    views, real = quoted("set"), quoted("pictograms")
    _run(
        f"generate --prompts {shlex.quote(str(EMBEDDED_LIST))} --out {views} --views-per-subject 6 "
        f"--guidance 3 --steps 5 --subjects-per-shard 32 --batch-size 64 --executor {executor}"
    )
    _run(f"verify {views}")
    _run(f"report {views} --out {quoted('report.html')}")
    _run(f"pictograms --out {real}")
    _run_side_by_side(
        [
            train("demo", "stablerep", views),
            train("demo-plus", "stablerep-plus", views),
            train("demo-clip", "clip", views),
            train("demo-simclr", "simclr", views),
            train("demo-simclr", "simclr-real", f"wds:{real}/train"),
        ]
    )
    runs = [quoted(name) for name in ("stablerep-plus", "stablerep", "clip", "simclr")]
    others = [quoted("simclr-real"), f"untrained:{quoted('stablerep')}", "pixels:16"]
    everyone = " ".join([*runs, *others])
    test = f"--on wds:{real} --test-split test"
    _run(
        f"evaluate {everyone} {test} --train-split bank --with knn,linear "
        f"--set linear.rates=[0.1] --out {quoted('scores/transfer')}"
    )
    _run(
        f"evaluate {everyone} {test} --train-split test-shot --with knn "
        f"--out {quoted('scores/one-shot')}"
    )
    _run(f"evaluate {runs[0]} {runs[2]} {test} --with zero-shot --out {quoted('scores/zero-shot')}")
    _show(folder)
    elapsed_s = time.monotonic() - start
    click.echo(f"{elapsed_s:,.0f} s in all. Open {folder / 'report.html'} in a browser.")


def _start(command: str, *, threads: int | None = None) -> "subprocess.Popen[str]":
    click.secho(f"$ synth {command}", bold=True)
    arguments = [sys.executable, "-m", "synth", *shlex.split(command)]
    if threads is None:
        return subprocess.Popen(arguments, text=True)
    # Torch processes with more threads than there are cores are slower than one after the other.
    limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        arguments,
        text=True,
        env=os.environ | limits,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _run(command: str) -> None:
    _require_success(_start(command).wait())


def _run_side_by_side(commands: Sequence[str]) -> None:
    """Run one command per core at a time, on one thread each; a line says whose it is."""

    def run(command: str) -> int:
        process = _start(command, threads=1)
        assert process.stdout is not None
        name = Path(shlex.split(command)[3]).name  # of the run: train URL --out RUN
        for line in process.stdout:
            click.echo(f"{name}: {line}", nl=False)
        return process.wait()

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for status in pool.map(run, commands):
            _require_success(status)


def _require_success(status: int) -> None:
    if status:
        # A negative status is a signal; as in a shell, that becomes 128 and its number.
        raise SystemExit(status if status > 0 else 128 - status)


def _show(out: Path) -> None:
    """Print the scores of each encoder, from the files that `synth evaluate` wrote."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title="drawings of an unseen artist named right, %: top-1 / top-5 (95 % interval of top-1)",
        caption="249 things, chance 0.4 / 2.0. k-NN and probe learn from 6 drawings of a thing by "
        "artists of the training set, one-shot from 1 by the unseen artist, zero-shot from names.",
    )
    table.add_column("encoder")
    for name in _SCORES:
        table.add_column(name, justify="right")
    for label, encoder in _ENCODERS.items():
        cells = [
            _cell(out / "scores" / folder / f"{encoder}.json", evaluation)
            for folder, evaluation in _SCORES.values()
        ]
        table.add_row(label, *cells)
    Console().print(table)


def _cell(path: Path, evaluation: str) -> str:
    if not path.exists():
        return ""
    scores = json.loads(path.read_text("utf-8"))["scores"]
    (score,) = [score for score in scores if score["name"] == evaluation]
    top1, low, high, top5 = (100 * score[key] for key in ("accuracy", "low", "high", "top5"))
    return f"{top1:.1f} / {top5:.1f}\n({low:.1f} to {high:.1f})"
