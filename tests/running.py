"""Run `synth` as a user does, and look at the files that it made."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT

CAPTIONS = [
    f"a {thing} on {ground}" for thing in ("penguin", "lemon", "car") for ground in ("red", "blue")
]


def write_captions(folder: Path, captions: Sequence[str] = CAPTIONS) -> Path:
    path = folder / "captions.txt"
    path.write_text("\n".join(captions) + "\n")
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "synth", *map(str, arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(
    *arguments: object, new_session: bool = False, first_on_path: Path | None = None
) -> subprocess.Popen[str]:
    """Begin a command.

    Args:
        first_on_path: Folder from which it takes packages before all others.
    """
    paths = [str(ROOT)] if first_on_path is None else [str(first_on_path), str(ROOT)]
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=environment() | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=new_session,
    )


def synth(*arguments: object, status: int = 0, first_on_path: Path | None = None) -> str:
    """Run to the end and return what it printed."""
    with start(*arguments, first_on_path=first_on_path) as process:
        output, _ = process.communicate(timeout=300)
    assert process.returncode == status, output
    return output


def pixel_files(url: Path) -> dict[str, bytes]:
    """Bytes of all tars and manifests, by path: these must not depend on how a set was made."""
    paths = [*sorted(url.glob("data/*.tar")), *sorted(url.glob("manifests/*.parquet"))]
    return {str(path.relative_to(url)): path.read_bytes() for path in paths}
