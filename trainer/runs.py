"""The folder of a run: what it was begun with, where it ran, and that it is gone on with alike."""

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from manifests.foundation.differences import differing_keys
from manifests.foundation.files import TEMPORARY_PREFIX, write_whole
from trainer import checkpointing, metrics
from trainer.errors import CheckpointError
from trainer.models.encoder import SPEC, WEIGHTS
from trainer.models.text import SPEC as TEXT_SPEC
from trainer.models.text import WEIGHTS as TEXT_WEIGHTS

FILE = "run.json"
SCORES = "scores"

_OWN_FILES = (metrics.FILE, WEIGHTS, SPEC, TEXT_WEIGHTS, TEXT_SPEC, FILE)
_OWN_FOLDERS = (checkpointing.FOLDER, metrics.BOARD, SCORES)


def enter_run(
    run: Path, identity: Mapping[str, Any], facts: Mapping[str, Any], *, fresh: bool
) -> None:
    """Begin a run, or go on with the one that is there.

    Args:
        identity: All that decides what is learned, as JSON.
        facts: What is only recorded.
        fresh: Remove what an earlier run left here first.

    Raises:
        CheckpointError: The folder holds something else, or a run with another identity; the
            message names the keys that differ.
    """
    path = run / FILE
    if fresh and path.exists():
        read_run(run)  # refuses what is no run of ours
        _remove(run)
    session = {**facts, "started": datetime.now(UTC).isoformat(timespec="seconds")}
    if not path.exists():
        if run.exists() and not run.is_dir():
            raise CheckpointError(f"{run}: is a file; give an empty folder as --out")
        there = run.iterdir() if run.exists() else ()
        foreign = sorted(e.name for e in there if not e.name.startswith(TEMPORARY_PREFIX))
        if foreign:
            raise CheckpointError(
                f"{run}: holds {foreign[0]} but no {FILE}; give an empty folder as --out"
            )
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise CheckpointError(f"{run}: cannot be made ({exc.strerror}); choose --out") from exc
        _write(path, {"identity": identity, "sessions": [session]})
        return
    document = read_run(run)
    if not checkpointing.checkpoints(run):  # nothing is learned yet: the recipe may still be mended
        document["identity"] = identity
    if keys := differing_keys(document["identity"], identity):
        raise CheckpointError(
            f"{run}: was begun with another recipe or set; these differ: {', '.join(keys)}. Give "
            "the old values, another --out, or --fresh to start over"
        )
    document["sessions"].append(session)
    _write(path, document)


def read_run(run: Path) -> dict[str, Any]:
    """`run.json` of a run. Raises CheckpointError if there is none or it is broken."""
    path = run / FILE
    try:
        document = json.loads(path.read_text("utf-8"))
        if isinstance(document["identity"], dict) and isinstance(document["sessions"], list):
            return dict(document)
    except FileNotFoundError as exc:
        raise CheckpointError(f"{run}: no run here (no {FILE}); give the --out of a run") from exc
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc}); restore it, or --fresh") from exc
    raise CheckpointError(f"{path}: not of this program; give another --out")


def surroundings(world: int, device: torch.device) -> dict[str, Any]:
    """Where a run takes place: code, versions, hardware."""
    names = ("synth-rep", "torch", "torchvision", "timm", "open_clip_torch", "numpy", "webdataset")
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "git": _revision(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in names},
        "hardware": {
            "host": platform.node(),
            "machine": platform.machine(),
            "device": hardware or str(device),
            "threads": torch.get_num_threads(),
        },
        "world_size": world,
    }


def _revision() -> str:
    """Commit of the checkout that this code runs from; "+changes" if it is not clean."""
    here = Path(__file__).parent
    try:
        told = [
            subprocess.run(
                ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (
                (
                    "ls-files",
                    "--error-unmatch",
                    Path(__file__).name,
                ),  # not installed in another one
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "-uno"),
            )
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told[1] + ("+changes" if told[2] else "")


def _remove(run: Path) -> None:
    """What runs write, `run.json` last: a removal that was killed is gone on with."""
    for name in _OWN_FOLDERS:
        shutil.rmtree(run / name, ignore_errors=True)
    for name in _OWN_FILES:
        (run / name).unlink(missing_ok=True)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    write_whole(path, f"{json.dumps(document, indent=2)}\n".encode())
