"""Checks that every backend makes before it reads, and the open file that it returns."""

import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from manifests.storage.errors import StoreError

MAX_READ_BYTES = 1 << 30
"""Most bytes that are taken into memory at once, unless a caller states another bound."""


def require_relative(url: str, path: str) -> None:
    """Refuse a path that leads out of the store. Raises StoreError."""
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise StoreError(f"{url}: {path!r}: a path of a set is relative and has no '..'")


def require_range(where: str, offset: int, length: int) -> None:
    """Refuse a range that no file has, or that is too long for memory. Raises StoreError."""
    if offset < 0 or not 0 <= length <= MAX_READ_BYTES:
        raise StoreError(
            f"{where}: cannot read {length} bytes from byte {offset}; expected an offset from 0 "
            f"and a length of 0 to {MAX_READ_BYTES} bytes"
        )


def require_size(where: str, num_bytes: int, max_bytes: int) -> None:
    """Refuse a file that is larger than its reader takes into memory. Raises StoreError."""
    if num_bytes > max_bytes:
        raise StoreError(
            f"{where}: is larger than {max_bytes:,} bytes, the most that is read of such a file; "
            "restore it from a copy"
        )


def require_ordinary(where: str, mode: int) -> None:
    """Refuse what is no file, by its mode: it may block or never end. Raises StoreError."""
    if stat.S_ISREG(mode):
        return
    kinds = (
        (stat.S_ISDIR, "folder"),
        (stat.S_ISFIFO, "pipe"),
        (stat.S_ISSOCK, "socket"),
    )
    kind = next((name for is_kind, name in kinds if is_kind(mode)), "device")
    raise StoreError(
        f"{where}: a {kind} stands where a file is needed; remove it and restore the file"
    )


class OpenFile:
    """A file that is read in pieces. Errors of the storage are turned into StoreErrors.

    Errors of the code that reads the file stay as they are, because `errors` is in force only while
    a piece is read.
    """

    def __init__(self, file: Any, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._file = file
        self._errors = errors

    def read(self, size: int = -1, /) -> bytes:
        """The next `size` bytes, fewer at the end of the file; all that are left if -1."""
        with self._errors():
            data: bytes = self._file.read(size)
            return data
