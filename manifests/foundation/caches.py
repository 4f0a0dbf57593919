"""What a machine may remember between commands; whoever uses it does without where it cannot."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_CACHE = (OSError, RuntimeError)
"""What is raised where there is no home, or a full or read-only disk."""


def cache_folder(name: str) -> Path:
    """Folder of one kind of notes, which need not exist yet. Raises one of NO_CACHE."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "synth" / name


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which ends with the process whatever happens to it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
