"""Local files that appear under their name whole and on disk, or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from manifests.foundation.errors import ConfigError

TEMPORARY_PREFIX = ".tmp-"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file; whoever looks meanwhile sees the file that was there before."""
    with whole_file(path) as file:
        file.write(data)


def require_local(path: Path, option: str) -> None:
    """Refuse a URL where an option takes the name of a local file. Raises ConfigError."""
    if ":/" in str(path):
        raise ConfigError(f"{option} {path}: is a URL; give a path on this machine")


def write_output(path: Path, data: bytes, *, option: str) -> None:
    """Write a file that a user asked for, whole or not at all.

    A link is followed. A pipe or a device, such as /dev/stdout, is written to and not replaced.

    Raises:
        ConfigError: The file cannot be written; the message names the option.
    """
    require_local(path, option)
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            path.write_bytes(data)
        else:
            write_whole(target, data)
    except OSError as exc:
        raise ConfigError(
            f"{option} {path}: cannot be written ({exc.strerror}); choose another path"
        ) from exc


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its name when the block ends without an error."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    try:
        with temporary.open("wb") as file:
            yield file
            sync_file(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_file(file: BinaryIO) -> None:
    """Wait until what was written to an open file is on disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk, so that they survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
