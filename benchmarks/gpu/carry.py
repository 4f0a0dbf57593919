"""Collect what the benchmark needs on a machine that has torch alone and no network.

    python -m benchmarks.gpu.carry FOLDER [--python 3.12]

Then, over there, in a copy of this repository with that folder:

    PYTHONPATH=FOLDER:. python -m benchmarks.gpu --out gpu.json

Versions are those that are installed here; torch and what belongs to it stay behind.
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click
from packaging.requirements import Requirement

NEEDED = (
    *("accelerate", "click", "diffusers", "fsspec", "jaxtyping", "open_clip_torch", "peft"),
    *("pillow", "pyarrow", "pydantic", "rich", "safetensors", "sentencepiece", "simplejpeg"),
    *("timm", "transformers"),
)
LEFT = {"torch", "torchvision"}
"""What a machine with torch has."""


def closure(names: tuple[str, ...]) -> set[str]:
    """The packages, and what they require in turn, as far as it is installed here."""
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in needed or name in LEFT:
            continue
        needed.add(name)
        for line in requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return needed


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
def main(folder: Path, python: str) -> None:
    pins = []
    for name in sorted(closure(NEEDED)):
        try:
            pins.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            click.echo(f"{name} is not installed here, and stays behind", err=True)
    command = ["uv", "pip", "install", "--target", str(folder), "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--python-version", python, *pins], check=True)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    click.echo(f"{folder}: {len(pins)} packages, {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
