"""`synth doctor`: whether this machine and a storage can do what a job will ask of them."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

_PACKAGES = ("synth-rep", "torch", "diffusers", "transformers", "ray", "timm", "pyarrow", "fsspec")
_SHARED_MEMORY = Path("/dev/shm")
LEAST_SCRATCH_BYTES = 2 << 30
LEAST_SHARED_BYTES = 1 << 30


@click.command(epilog="\b\nExamples:\n  synth doctor\n  synth doctor s3://bucket/set")
@click.argument("url", required=False)
def doctor(url: str | None) -> None:
    """Check this machine, and whether a set can be made at URL.

    At URL some files are written beside it, read, and removed again where the storage deletes.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from manifests.foundation.messages import printable
    from manifests.storage.probing import Check, probe_store

    table = Table(show_header=False)
    checks: list[Check] = []
    console = Console()
    with console.status("looking"):
        # The storage first, because an address that is refused needs no look at the machine.
        probed = [] if url is None else [*probe_store(url)]
        for name, is_right, says in _machine():
            checks.append(Check(name=name, is_right=is_right, says=says))
        checks.extend(probed)
    for check in checks:
        mark = Text("ok", "green") if check.is_right else Text("wrong", "bold red")
        table.add_row(check.name, mark, Text(printable(check.says)))
    console.print(table)
    if not all(check.is_right for check in checks):
        raise SystemExit(1)


def _machine() -> Iterator[tuple[str, bool, str]]:
    """Name, whether it is right, and what was found, for each thing of this machine."""
    yield "python", sys.version_info >= (3, 11), sys.version.split()[0]
    installed = []
    for name in _PACKAGES:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    yield "packages", True, ", ".join(installed)
    yield "cores", True, f"{len(os.sched_getaffinity(0))}"
    yield "devices", True, _devices()
    scratch = Path(tempfile.gettempdir())
    free = shutil.disk_usage(scratch).free
    is_enough = free >= LEAST_SCRATCH_BYTES
    advice = "" if is_enough else "; set TMPDIR to a larger disk"
    yield "scratch", is_enough, f"{scratch}: {free / 1e9:,.1f} GB free{advice}"
    if _SHARED_MEMORY.is_dir():
        size = shutil.disk_usage(_SHARED_MEMORY).total
        is_enough = size >= LEAST_SHARED_BYTES
        advice = "" if is_enough else "; loader workers of a training need more: --shm-size 8g"
        yield "shared memory", is_enough, f"{size / 1e9:,.1f} GB{advice}"


def _devices() -> str:
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if not torch.cuda.is_available():
        return "no CUDA device"
    names = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        names.append(f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    return "; ".join(names)
