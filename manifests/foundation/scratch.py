"""Temporary folders, and an end for those of processes that were killed.

A process that is killed cannot remove its files. Each folder has a lock that its process holds as
long as it lives, also across containers that share a disk; the next process that needs scratch
removes the folders whose lock is free.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import one_line

PREFIX = "synth-scratch-"
_LOCK = ".lock"
WITHOUT_LOCK_S = 3600.0
"""A folder without a lock may be one that is being made, unless it is older."""
_sweep_once = Lock()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in TMPDIR that is removed at the end, or later if this process is killed.

    Raises:
        ConfigError: There is no room, or no right, to make one.
    """
    if _sweep_once.acquire(blocking=False):  # and never released: once in a process
        sweep()
    with scratch_errors():
        folder, lock = _make()
    try:
        with lock:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Turn the OSError of a write to TMPDIR into a ConfigError that says what to do."""
    try:
        yield
    except OSError as exc:
        raise ConfigError(
            f"scratch cannot be written ({one_line(exc)}); free some space or set TMPDIR to a "
            "folder of a disk of this machine"
        ) from exc


def _make() -> tuple[Path, BinaryIO]:
    """A new folder and its lock, which is held until it is closed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = (folder / _LOCK).open("w+b")
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another process may have taken the lock before us and removed the folder.
        with suppress(FileNotFoundError):
            if os.path.samestat((folder / _LOCK).stat(), os.fstat(lock.fileno())):
                return folder, lock
        lock.close()


def sweep() -> None:
    """Remove the folders of killed processes of this user."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # of another user, or removed a moment ago
            if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
                _remove_if_orphan(folder)


def _remove_if_orphan(folder: Path) -> None:
    try:
        lock = (folder / _LOCK).open("r+b")  # as some file systems ask of one who locks
    except FileNotFoundError:
        if time.time() - folder.stat().st_mtime > WITHOUT_LOCK_S:
            shutil.rmtree(folder, ignore_errors=True)
        return
    with lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
