"""`synth demo`: the whole job on the embedded model, each command shown before it runs."""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click

_ENCODERS = {
    "StableRep, 8 views of a caption": "stablerep",
    "SimCLR, the same views": "simclr",
    "SimCLR, real training images": "simclr-real",
    "random encoder": "untrained",
    "raw pixels": "pixels",
}
"""Name in the table of each encoder that is scored, and of its run or its score file."""


@click.command()
@click.option("--out", default="demo", show_default=True, help="Folder of everything it makes.")
@click.option("--executor", default="ray", show_default=True, help="ray or inline.")
def demo(out: str, executor: str) -> None:
    """Captions to scores: generate, verify, train, evaluate and report, in a few minutes.

    96 captions x 8 views at guidance 4 are rendered by the embedded model; StableRep and two
    baselines learn from them or from real images; all are scored on real handwriting that neither
    the generator nor an encoder has seen.
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

    views, real = quoted("set"), quoted("handwriting")
    generate = (
        f"generate --prompts {shlex.quote(str(EMBEDDED_LIST))} --out {views} --views-per-subject 8 "
        f"--guidance 4 --steps 8 --subjects-per-shard 16 --batch-size 48 --executor {executor}"
    )
    commands = [
        generate,
        f"verify {views}",
        f"report {views} --out {quoted('report.html')}",
        f"handwriting --out {real}",
        f"train {views} --out {quoted('stablerep')} --recipe demo",
        f"train {views} --out {quoted('simclr')} --recipe demo-simclr",
        f"train wds:{real}/train --out {quoted('simclr-real')} --recipe demo-simclr",
    ]
    # These two are no runs of their own; every other encoder is the run of its name.
    baselines = {"untrained": f"untrained:{quoted('stablerep')}", "pixels": "pixels:8"}
    for encoder in _ENCODERS.values():
        commands.append(
            f"evaluate {baselines.get(encoder, quoted(encoder))} --on wds:{real} --with knn,linear "
            f"--test-split report --out {quoted(f'scores/{encoder}.json')}"
        )
    for command in commands:
        click.secho(f"$ synth {command}", bold=True)
        done = subprocess.run([sys.executable, "-m", "synth", *shlex.split(command)], check=False)
        if done.returncode:
            # A negative status is a signal; as in a shell, that becomes 128 and its number.
            raise SystemExit(done.returncode if done.returncode > 0 else 128 - done.returncode)
    _show(folder, time.monotonic() - start)


def _show(out: Path, elapsed_s: float) -> None:
    """Print the score of each encoder, from the score files that `synth evaluate` wrote."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="accuracy on held-out real handwriting, % (95 % interval)")
    table.add_column("encoder")
    for name in ("k-NN", "linear probe"):
        table.add_column(name, justify="right")
    for label, encoder in _ENCODERS.items():
        document = json.loads((out / "scores" / f"{encoder}.json").read_text("utf-8"))
        scores = {score["name"]: score for score in document["scores"]}
        cells = [
            f"{100 * score['accuracy']:.1f} ({100 * score['low']:.1f} to {100 * score['high']:.1f})"
            for score in (scores["knn"], scores["linear"])
        ]
        table.add_row(label, *cells)
    Console().print(table)
    click.echo(f"{elapsed_s:,.0f} s in all. Open {out / 'report.html'} in a browser.")
