"""Local files: each is written whole or not at all, and read up to a stated size."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from manifests.foundation.errors import ConfigError

TEMPORARY_PREFIX = ".tmp-"

_COLLAPSED_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""`s3:/bucket`: a URL after `Path` has made one slash of two."""


def local_path(text: str, *, option: str) -> Path:
    """The path that a user typed.

    Args:
        text: What the user typed.
        option: Option that it was typed for, for the message.

    Raises:
        ConfigError: It is a URL, or one without its scheme. `Path` would make the name of a local
            folder of it, and the secrets in that name could no longer be recognised.
    """
    if "://" in text or text.startswith("//") or _COLLAPSED_URL.match(text):
        raise ConfigError(f"{option} {text}: is a URL, expected a path on this machine")
    return Path(text)


def read_regular(path: Path, *, max_bytes: int, may_grow: bool = False) -> bytes:
    """The content of a regular file of at most `max_bytes`.

    Args:
        may_grow: Another process may be adding to its end; what was there at first is read.

    Raises:
        OSError: The file cannot be read, is larger, changes while it is read, or is no regular
            file; `strerror` says which of these.
    """
    size = require_regular(path)
    if size > max_bytes:
        raise OSError(errno.EFBIG, f"is larger than {max_bytes:,} bytes")
    with path.open("rb") as file:
        # One byte more shows that the file has grown.
        data = file.read(size if may_grow else size + 1)
    if len(data) != size:
        raise OSError(errno.EIO, "changed while it was read")
    return data


def require_regular(path: Path) -> int:
    """The size of a regular file in bytes, for a caller that lets a library open it.

    Raises:
        OSError: It is no regular file, or cannot be looked at. Opening a named pipe would block,
            and a device may never end.
    """
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected a file")
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, expected a regular file")
    return facts.st_size


def write_whole(path: Path, data: bytes) -> None:
    """Write or replace a file; until it is whole, readers see the old file."""
    with whole_file(path) as file:
        file.write(data)


def write_output(path: Path, data: bytes, *, option: str) -> None:
    """Write a file that a user asked for, whole or not at all.

    A link is followed. A pipe or a device, such as /dev/stdout, is written to and not replaced.

    Raises:
        ConfigError: The file cannot be written; the message names the option.
    """
    try:
        # The link is resolved first, because `os.replace` would replace the link itself.
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
    # In the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    try:
        with temporary.open("wb") as file:
            yield file
            # Before the rename: after a power cut the name must not stand for an empty file.
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
