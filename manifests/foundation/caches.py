"""What a machine may remember between commands; whoever uses it does without where it cannot.

A cache that is bounded has a folder for each thing that it keeps. A file `lock` in it says when the
folder was used last, by its time, and who holds it is using the folder.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_CACHE = (OSError, RuntimeError)
"""What is raised where there is no home, or a full or read-only disk."""

LOCK = "lock"


def cache_folder(name: str) -> Path:
    """Folder of one kind of notes, which need not exist yet. Raises one of NO_CACHE."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "synth" / name


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which ends with the process whatever happens to it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(path)
        yield


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock of a file unless somebody else does; gives whether it is held now."""
    with path.open("ab") as lock:  # leaves its time as it is
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def shrink(cache: Path, max_bytes: int, *, keep: Path) -> int:
    """Remove files of a bounded cache, of the folders that were used longest ago first.

    A file that another process has open or mapped stays readable for it.

    Args:
        cache: Folder of the folders.
        max_bytes: The files of all folders are to take no more than this.
        keep: Folder of which nothing is removed, besides those whose locks are held.

    Returns:
        What they take in the end, which is more where too much is in use.

    Raises:
        OSError: A folder cannot be read.
    """
    sizes = {folder: _sizes(folder) for folder in cache.iterdir() if folder.is_dir()}
    num_bytes = sum(sum(files.values()) for files in sizes.values())
    locks = [folder / LOCK for folder in sizes if folder != keep]
    for lock in sorted((lock for lock in locks if lock.exists()), key=_used):
        if num_bytes <= max_bytes:
            break
        with locked_if_free(lock) as is_free:
            # What says that a folder is whole is a JSON file, which therefore goes first.
            files = sorted(sizes[lock.parent], key=lambda path: path.suffix != ".json")
            for path in files if is_free else ():
                path.unlink(missing_ok=True)
                num_bytes -= sizes[lock.parent][path]
                if num_bytes <= max_bytes:
                    break
    return num_bytes


def _sizes(folder: Path) -> dict[Path, int]:
    """Bytes of each file of a folder but its locks, which are empty."""
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process has removed it, or renamed it
                if entry.is_file() and (size := entry.stat().st_size):
                    sizes[Path(entry.path)] = size
    return sizes


def _used(lock: Path) -> float:
    with suppress(FileNotFoundError):
        return lock.stat().st_mtime
    return 0.0
