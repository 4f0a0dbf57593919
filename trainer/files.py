"""Files that are whole under their name, or those that were there before."""

import os
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its name, and take the name once it is on disk."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
