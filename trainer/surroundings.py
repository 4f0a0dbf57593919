"""What a run is made with: recorded at each start, and allowed to differ when it is resumed."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def surroundings(world: int, device: torch.device) -> dict[str, Any]:
    """What a run was made with: code, versions of libraries, hardware."""
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
    """Commit of the checkout that this code runs from, with "+changes" if it is not clean.

    Empty if this file is not under version control, as in an installed package that lies somewhere
    inside another checkout.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        changes = _git("status", "--porcelain", "-uno")
        return _git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
