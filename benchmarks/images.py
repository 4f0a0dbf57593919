"""Builds the images of `docker/` with buildah, and runs their programs as the user of the image.

    python -m benchmarks.images [--volume HOST:IMAGE:ro ...]

It needs root and Debian's packages buildah, crun and mmdebstrap, and no image registry: the base
that the Dockerfiles name is made from Debian's packages. `--volume` hands in what a build on this
machine needs, such as the configuration of its package index. Writes results/images.json.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks import machine

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "images.json"
BASE = "docker.io/library/python:3.11-slim-bookworm"
NAMES = ("pipeline", "trainer")
CAPTIONS = "a red star\na blue fish\n"
CALLS = {
    "pipeline": (
        "id --user",
        "synth --version",
        "ray --version",
        "synth generate --prompts /out/captions.txt --out /out/set --views-per-subject 4",
        "synth generate --renderer shaders --set prompts.source=shaders --views-per-subject 4 "
        "--executor inline --out /out/shaders",
    ),
    "trainer": (
        "id --user",
        "synth --version",
        "synth train /out/set --out /out/run --recipe demo-simclr --set batch.groups=2 "
        "--set schedule.steps=3 --set schedule.warmup_steps=0",
    ),
}
"""What is run in each image; the trainer reads the set that the pipeline made."""


def run(*command: str, check: bool = True) -> str:
    """Output of a command; its errors are shown."""
    env = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=check)
    return done.stdout.strip()


def make_base(folder: Path) -> None:
    """The image that the Dockerfiles begin with, unless there is one of its name."""
    if run("buildah", "images", "--quiet", BASE, check=False):
        return
    archive = folder / "base.tar"
    packages = "--include=ca-certificates,python3,python3-venv"
    run("mmdebstrap", "--variant=minbase", packages, "bookworm", str(archive))
    container = run("buildah", "from", "scratch")
    root = run("buildah", "mount", container)
    run("tar", "-C", root, "-xf", str(archive))
    (Path(root) / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    run("buildah", "umount", container)
    run("buildah", "commit", "--quiet", container, BASE)
    run("buildah", "rm", container)


def build(name: str, volumes: Sequence[str]) -> dict[str, float]:
    """Build an image, and give its size and the time that it took."""
    mounts = [word for volume in volumes for word in ("--volume", volume)]
    dockerfile = str(ROOT / "docker" / f"{name}.Dockerfile")
    start = time.monotonic()
    run(
        *("buildah", "bud", "--pull-never", "--network", "host", *mounts),
        *("--file", dockerfile, "--tag", f"synth-{name}", str(ROOT)),
    )
    seconds = time.monotonic() - start
    size = json.loads(run("buildah", "inspect", "--type", "image", f"localhost/synth-{name}"))
    layers = size["OCIv1"]["rootfs"]["diff_ids"]
    listed = run("buildah", "images", "--json", f"localhost/synth-{name}")
    return {
        "build_s": round(seconds, 1),
        "layers": len(layers),
        "size": json.loads(listed)[0]["size"],
    }


@click.command(help=__doc__)
@click.option("--volume", "volumes", multiple=True, metavar="HOST:IMAGE:ro")
def main(volumes: tuple[str, ...]) -> None:
    results: dict[str, object] = {"machine": machine.describe()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        make_base(folder)
        out = folder / "out"
        out.mkdir()
        out.chmod(0o777)  # the user of the image is not root
        (out / "captions.txt").write_text(CAPTIONS)
        for name in NAMES:
            print(f"{name}: building", flush=True)
            results[name] = built = build(name, volumes)
            container = run("buildah", "from", "--pull-never", f"localhost/synth-{name}")
            calls = {}
            for call in CALLS[name]:
                start = time.monotonic()
                shown = run(
                    "buildah", "run", "--volume", f"{out}:/out", container, "--", "sh", "-c", call
                )
                last = (shown.splitlines() or [""])[-1]
                calls[call] = {"output": last, "s": round(time.monotonic() - start, 1)}
                print(f"{name}: {call}: {last}", flush=True)
            run("buildah", "rm", container)
            results[name] = {**built, "calls": calls}
    RESULTS.write_text(f"{json.dumps(results, indent=1)}\n")


if __name__ == "__main__":
    main()
