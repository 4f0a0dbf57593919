"""`synth demo`: the whole job on the embedded model, each command shown before it runs."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from pipeline.commands.flags import ExecutorName, flag


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demo:
    """What one system trains and scores."""

    encoders: Mapping[str, str]
    """Name in the table of each encoder that is scored, and of its score file."""
    scores: Mapping[str, tuple[str, str]]
    """Columns of the table: folder of score files, and the evaluation in them."""


_FIRST = "pictograms"
"""What a demo makes first in its folder: the real drawings."""

_ACROSS = {
    "k-NN": ("transfer", "knn"),
    "linear probe": ("transfer", "linear"),
    "one-shot": ("one-shot", "knn"),
}


def _floor(run: str) -> dict[str, str]:
    """What nothing was learned by: the tower of a run with random weights, and pixels."""
    return {"random encoder": f"untrained-{run}", "raw pixels": "pixels-16"}


_DEMOS = {
    "stablerep": _Demo(
        encoders={
            "StableRep+": "stablerep-plus",
            "StableRep": "stablerep",
            "CLIP": "clip",
            "SimCLR": "simclr",
            "SimCLR, real drawings": "simclr-real",
            **_floor("stablerep-plus"),
        },
        scores={**_ACROSS, "zero-shot": ("zero-shot", "zero-shot")},
    ),
    "genrep": _Demo(
        encoders={
            "views around a latent": "genrep",
            "independent views": "independent",
            "SimCLR, the same views": "simclr",
            "SimCLR, real drawings": "simclr-real",
            **_floor("genrep"),
        },
        scores=_ACROSS,
    ),
    "shaders21k": _Demo(
        encoders={
            "views of a program": "programs",
            "cross-entropy, programs": "cross-entropy",
            "SimCLR, the same views": "simclr",
            "SimCLR, real drawings": "simclr-real",
            **_floor("programs"),
        },
        scores=_ACROSS,
    ),
}


@click.command(epilog="\b\nExamples:\n  synth demo\n  synth demo --system genrep --out genrep")
@click.option("--out", default="demo", show_default=True, help="Folder of everything it makes.")
@flag("--executor", "execution.executor", type=ExecutorName(), help="What runs the workers.")
@click.option(
    "--system",
    type=click.Choice(list(_DEMOS)),
    default="stablerep",
    show_default=True,
    help="stablerep: images of one caption. genrep: views around one latent. shaders21k: views of "
    "one image program.",
)
def demo(out: str, executor: str | None, system: str) -> None:
    """The whole way of a system, from nothing to scores, in a few minutes.

    Views are rendered by what is shipped with the package: captions by a text-to-image model,
    latents by a generator, or image programs. Encoders learn from them or from real drawings, and
    all are scored on drawings of an artist whom neither a generator nor an encoder has seen.
    """
    from manifests.foundation.errors import ConfigError
    from manifests.foundation.files import local_path

    start = time.monotonic()
    folder = local_path(out, option="--out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    except OSError as exc:
        raise ConfigError(f"--out {folder}: cannot be made ({exc.strerror}); give another") from exc
    if there and _FIRST not in there:  # of a sealed set, it would be written among its files
        raise ConfigError(
            f"--out {folder}: holds {there[0]} and is no demo; give a new or an empty folder"
        )
    commands = _Commands(folder, executor)
    commands.run(f"pictograms --out {commands.real}")
    {"stablerep": _stablerep, "genrep": _genrep, "shaders21k": _shaders21k}[system](commands)
    show_scores(folder, system)
    elapsed_s = time.monotonic() - start
    click.echo(f"{elapsed_s:,.0f} s in all. Open {folder / 'report.html'} in a browser.")


@dataclass(frozen=True, slots=True)
class _Commands:
    """Command lines of one demo, each shown and run."""

    folder: Path
    executor: str | None
    """None for that of a recipe that names none."""

    def quoted(self, name: str) -> str:
        """Path of a file or folder in `--out`, as it stands in a command line."""
        return shlex.quote(str(self.folder / name))

    @property
    def real(self) -> str:
        """The real drawings."""
        return self.quoted(_FIRST)

    def run(self, command: str) -> None:
        _require_success(_start(command).wait())

    def generate(self, name: str, settings: str) -> str:
        """Render a set and check it. Returns its URL."""
        url = self.quoted(name)
        executor = "" if self.executor is None else f"--executor {self.executor} "
        self.run(f"generate --out {url} {executor}{settings}")
        self.run(f"verify {url}")
        return url

    def report(self, url: str) -> None:
        """A page with views of the set, and with what was learned from it."""
        learned = f"--run {shlex.quote(str(self.folder))} --scores {self.quoted('scores')}"
        self.run(f"report {url} {learned} --out {self.quoted('report.html')}")

    def train(self, runs: Mapping[str, tuple[str, str]]) -> None:
        """Train runs side by side: by name the recipe and the URL of the set."""
        real = {"simclr-real": ("demo-simclr", f"wds:{self.real}/train")}
        _run_side_by_side(
            [
                f"train {url} --out {self.quoted(name)} --recipe {recipe}"
                for name, (recipe, url) in {**runs, **real}.items()
            ]
        )

    def evaluate(self, runs: Sequence[str]) -> None:
        """Score runs, a random encoder and raw pixels on the unseen artist."""
        names = [*runs, "simclr-real"]
        floor = f"untrained:{self.quoted(runs[0])} pixels:16"
        everyone = f"{' '.join(map(self.quoted, names))} {floor}"
        test = f"--on wds:{self.real} --test-split test"
        self.run(
            f"evaluate {everyone} {test} --train-split bank --with knn,linear "
            "--set linear.rates=[0.1] --set linear.min_steps=1 "
            f"--out {self.quoted('scores/transfer')}"
        )
        self.run(
            f"evaluate {everyone} {test} --train-split test-shot --with knn "
            f"--out {self.quoted('scores/one-shot')}"
        )


def _stablerep(commands: _Commands) -> None:
    from prompts.lists import EMBEDDED_LIST

    views = commands.generate(
        "set",
        f"--prompts {shlex.quote(str(EMBEDDED_LIST))} --views-per-subject 6 --guidance 3 --steps 5 "
        "--subjects-per-shard 32 --batch-size 64",
    )
    recipes = {"stablerep-plus": "demo-plus", "stablerep": "demo", "clip": "demo-clip"}
    recipes["simclr"] = "demo-simclr"
    commands.train({name: (recipe, views) for name, recipe in recipes.items()})
    commands.evaluate(list(recipes))
    both = f"{commands.quoted('stablerep-plus')} {commands.quoted('clip')}"
    on = f"--on wds:{commands.real} --test-split test"
    commands.run(
        f"evaluate {both} {on} --with zero-shot --out {commands.quoted('scores/zero-shot')}"
    )
    commands.report(views)


def _genrep(commands: _Commands) -> None:
    shared = (
        "--renderer latent-neighbourhood --set prompts.source=anchors --set prompts.count=1500 "
        "--views-per-subject 4 --subjects-per-shard 100 --set renderer.batch_size=32"
    )
    near = commands.generate("set", f"{shared} --set renderer.sigma=0.3")
    far = commands.generate("independent-set", f"{shared} --set renderer.neighbourhood=independent")
    commands.train(
        {
            "genrep": ("demo-latents", near),
            "independent": ("demo-latents", far),
            "simclr": ("demo-simclr", near),
        }
    )
    commands.evaluate(["genrep", "independent", "simclr"])
    commands.report(near)


def _shaders21k(commands: _Commands) -> None:
    views = commands.generate(
        "set",
        "--renderer image-programs --set prompts.source=programs --set prompts.count=1000 "
        "--views-per-subject 6 --size 48 --subjects-per-shard 100",
    )
    recipes = {"programs": "demo-programs", "cross-entropy": "demo-programs-ce"}
    recipes["simclr"] = "demo-simclr"
    commands.train({name: (recipe, views) for name, recipe in recipes.items()})
    commands.evaluate(list(recipes))
    commands.report(views)


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


def show_scores(out: Path, system: str) -> None:
    """Print the scores of each encoder, from the files that `synth evaluate` wrote."""
    from rich.console import Console

    from manifests.foundation.fitting import FittingTable

    demo = _DEMOS[system]
    table = FittingTable(
        title="drawings of an unseen artist named right, %: top-1/top-5, 95 % interval of top-1",
        caption="249 things, chance 0.4/2.0. k-NN and probe learn from 6 drawings of a thing by "
        "artists of the training set, one-shot from 1 by the unseen artist, zero-shot from names.",
    )
    table.add_column("encoder")
    for name in demo.scores:
        table.add_column(name, justify="right")
    for label, encoder in demo.encoders.items():
        cells = [
            _cell(out / "scores" / folder / f"{encoder}.json", evaluation)
            for folder, evaluation in demo.scores.values()
        ]
        table.add_row(label, *cells)
    Console().print(table)


def _cell(path: Path, evaluation: str) -> str:
    if not path.exists():
        return ""
    scores = json.loads(path.read_text("utf-8"))["scores"]
    (score,) = [score for score in scores if score["name"] == evaluation]
    top1, low, high, top5 = (100 * score[key] for key in ("value", "low", "high", "top5"))
    return f"{top1:.1f}/{top5:.1f}\n{low:.1f}-{high:.1f}"
