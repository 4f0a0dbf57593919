"""SHA-256 of large files, remembered by the machine: weights of 34 GB take a core 20 seconds.

Every worker of a machine checks the model that it was given. The first one hashes it; the others
wait for that, and read what it noted. A file counts as the same one while the machine, its path,
device, inode, size and times of change are the same.
"""

import re
import socket
from pathlib import Path

from manifests.canonical import hash_file, hash_json
from manifests.foundation.caches import NO_CACHE, cache_folder, locked

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
        folder = cache_folder("hashes")
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / f"{hash_json(known_by)[:32]}.sha256"
        with locked(note.with_suffix(".lock")):
            text = note.read_text() if note.exists() else ""
            if not re.fullmatch("[0-9a-f]{64}", text):  # a new one, or one of a killed process
                text = hash_file(path)
                note.write_text(text)
            return text
    except NO_CACHE:
        return hash_file(path)
