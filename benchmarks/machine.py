"""What a figure was measured on: printed above every result."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def processor() -> str:
    """Name of the processor; empty where the system does not say it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _named_version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:  # a machine with a GPU alone has no Ray
        return ""


def resident_bytes(kind: str) -> int:
    """Memory of this process now (`VmRSS`) or at its peak (`VmHWM`).

    `getrusage` keeps the peak of the parent over fork and exec, and so reports too much.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(kind))


def describe() -> str:
    """One line: date, processor, cores, load, versions."""
    versions = ", ".join(filter(None, map(_named_version, ("torch", "diffusers", "ray"))))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {versions}"
    )
