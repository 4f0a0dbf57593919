"""SHA-256 of large files, remembered by the machine: weights of 34 GB take a core 20 seconds.

Every worker of a machine checks the model that it was given. The first one hashes it; the others
wait for that, and read what it noted. A file counts as the same one while the machine, its path,
device, inode, size and times of change are the same.
"""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manifests.canonical import hash_file, hash_json

MIN_BYTES = 1 << 20
"""Smaller files are hashed each time."""


def hash_of(path: Path) -> str:
    """SHA-256 of a local file in hexadecimal."""
    stat = path.stat()
    if stat.st_size < MIN_BYTES:
        return hash_file(path)
    times = [stat.st_mtime_ns, stat.st_ctime_ns]
    place = [socket.gethostname(), str(path.resolve()), stat.st_dev, stat.st_ino]
    known_by = [*place, stat.st_size, *times]
    try:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{hash_json(known_by)[:32]}.sha256") as note:
            text = note.read_text() if note.exists() else ""
            if not re.fullmatch("[0-9a-f]{64}", text):  # a new one, or one of a killed process
                text = hash_file(path)
                note.write_text(text)
            return text
    except (OSError, RuntimeError):  # no home, a full or read-only disk: it is only a cache
        return hash_file(path)


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "synth" / "hashes"


@contextmanager
def _locked(note: Path) -> Iterator[Path]:
    """Hold a lock beside a file, which ends with the process whatever happens to it."""
    with note.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield note
