"""Versions of the libraries that decide pixels: another one may change their last bits."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

_NAMES = ("synth-rep", "torch", "diffusers", "transformers", "pyarrow", "pillow", "simplejpeg")


def versions_here() -> dict[str, str]:
    """By name, of Python and of those libraries that are installed in this process."""
    versions = {"python": platform.python_version()}
    for name in _NAMES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def unlike_driver(driver: Mapping[str, str], worker: Mapping[str, str]) -> list[str]:
    """A line for each library that a worker has in another version than its driver.

    Example: "torch 2.11.0 (2.14.0 where the job was started)".
    """
    return [
        f"{name} {worker.get(name, 'missing')} ({driver.get(name, 'missing')} where the job was "
        "started)"
        for name in sorted({*driver, *worker})
        if worker.get(name) != driver.get(name)
    ]
