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

PREFIX = "synth-scratch-"
_LOCK = ".lock"
WITHOUT_LOCK_S = 3600.0
"""A folder without a lock may be one that is being made, unless it is older."""
_sweep_once = Lock()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in TMPDIR that is removed at the end, or later if this process is killed.

    Raises:
        OSError: There is no room, or no right, to make one.
    """
    if _sweep_once.acquire(blocking=False):  # and never released: once in a process
        sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with (folder / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Remove the folders of killed processes of this user."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # of another user, or removed a moment ago
            if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
                _remove_if_orphan(folder)


def _remove_if_orphan(folder: Path) -> None:
    try:
        lock = (folder / _LOCK).open("rb")
    except FileNotFoundError:
        if time.time() - folder.stat().st_mtime > WITHOUT_LOCK_S:
            shutil.rmtree(folder, ignore_errors=True)
        return
    with lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
