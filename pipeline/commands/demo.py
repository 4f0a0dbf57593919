"""`synth demo`: the whole job on the embedded model, each command shown before it runs."""

import shlex
import subprocess
import sys
from pathlib import Path

import click


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--executor", default="ray", show_default=True, help="ray or inline.")
def demo(out: Path, executor: str) -> None:
    """Generate 96 captions x 9 views at guidance 1, 3 and 8, verify the set, and report on it."""
    from prompts.lists import EMBEDDED_LIST

    url, page = str(out / "set"), str(out / "report.html")
    generate = (
        f"generate --prompts {shlex.quote(str(EMBEDDED_LIST))} --out {shlex.quote(url)} "
        "--images-per-prompt 9 --guidance 1,3,8 --steps 8 --prompts-per-shard 16 --batch-size 48 "
        f"--executor {executor}"
    )
    out.mkdir(parents=True, exist_ok=True)
    for command in (
        generate,
        f"status {shlex.quote(url)}",
        f"verify {shlex.quote(url)}",
        f"report {shlex.quote(url)} --out {shlex.quote(page)}",
    ):
        click.secho(f"$ synth {command}", bold=True)
        done = subprocess.run([sys.executable, "-m", "synth", *shlex.split(command)], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
    click.echo(f"Open {page} in a browser.")
