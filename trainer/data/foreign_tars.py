"""WebDataset tars that no manifest describes, read through the webdataset library.

Nothing in them is executed: members stay bytes, `.decode()` is never called, and tars are opened
by the store, never by URL handlers that start programs. Stock readers end silently at a changed
header or at a cut between two members, so the headers are checked while they read.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from tarfile import BLOCKSIZE
from typing import Any

from manifests.foundation.errors import SynthError
from manifests.storage import Store
from trainer.errors import DataError

MAX_MEMBER_BYTES = 256 << 20
READ_BYTES = 4 << 20
"""Read from the store at once."""

_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_TYPE = slice(156, 157)
_NAME, _PREFIX, _MAGIC = slice(0, 100), slice(345, 500), slice(257, 265)
_FILES = (b"0", b"\0", b"7")
_LONG_NAMES = (b"L", b"x", b"X")
"""Headers that may hold the name of the member after them."""
_CHECKSUM_AS_SPACES = 8 * ord(" ")


class Content(bytes):
    """The bytes of a member, which know where they lie."""

    offset: int
    """First byte in the tar."""


def read_groups(
    store: Store,
    path: str,
    *,
    begin: int = 0,
    end: int | None = None,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[str, dict[str, Content]]]:
    """Key, and members by suffix (lower case, without its dot), of each group of files of one tar.

    A fault is raised when the reading reaches it, after the groups before it were yielded. Callers
    must therefore drop what they have read of a tar that raised.

    Args:
        store: Where the tar is.
        path: Of the tar, in the store.
        begin: First byte that is read, where a group begins.
        end: Byte before which the reading ends, where another group begins; None is the tar's end.
        on_bytes: Called with the number of bytes that were read since the last call.

    Raises:
        DataError: The tar is cut, changed or compressed, or a key comes twice.
        StoreError: The storage cannot be read.
    """
    tar = CheckedTar(store, path, begin=begin, end=end, on_bytes=on_bytes)
    groups = _groups(tar)
    keys: set[str] = set()
    while (group := _next(groups, tar)) is not None:
        key = group["__key__"]
        if key in keys:
            raise comes_twice(tar.where, key)
        keys.add(key)
        yield key, {name: data for name, data in group.items() if not name.startswith("__")}
    tar.finish()


def comes_twice(where: str, key: str) -> DataError:
    """What is raised of a key that has files in two places of a tar."""
    return DataError(f"{where}: {key} comes twice; the files of one key have to be adjacent")


def _groups(tar: "CheckedTar") -> Iterator[dict[str, Any]]:
    os.environ["WDS_SECURE"] = "1"  # read when the library is imported
    import webdataset.utils
    from webdataset.tariterators import group_by_keys, tar_file_expander

    webdataset.utils.enforce_security = True  # if it was imported before, by anybody
    files = tar_file_expander([{"url": tar.where, "stream": tar}])
    groups: Iterator[dict[str, Any]] = group_by_keys(map(tar.placed, files))
    return groups


def _next(groups: Iterator[dict[str, Any]], tar: "CheckedTar") -> dict[str, Any] | None:
    """The next group. A fault of the tar is raised rather than what webdataset makes of it."""
    reason = ""
    try:
        group = next(groups, None)
    except Exception as exc:  # webdataset appends objects of its own to the arguments
        reason = " ".join(str(exc.args[0] if exc.args else type(exc).__name__).split())
    if tar.fault is not None:
        raise tar.fault
    if reason:
        raise DataError(f"{tar.where}: not a tar that webdataset can read ({reason})")
    return group


class CheckedTar:
    """A tar as an open file that checks headers and sizes while webdataset reads it.

    A fault is kept in `fault` and ends the reading, because webdataset would change an exception
    that is raised here.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        *,
        begin: int = 0,
        end: int | None = None,
        on_bytes: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.where = store.at(path)
        self.fault: Exception | None = None
        self._store = store
        self._path = path
        self._on_bytes = on_bytes
        self._ahead = b""
        self._ahead_used = 0
        self._next_byte = begin
        self._end = end
        self._header = b""
        self._skip_bytes = 0
        self._position = begin
        self._num_zero_blocks = 0
        self._files: deque[tuple[str | None, int, int]] = deque()
        """Name, first byte and size of the files that were met and not handed on yet; no name where
        a header before it has it."""
        self._is_long_name = False

    def __str__(self) -> str:
        return self.where

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end and after a fault."""
        if self.fault is not None:
            return b""
        try:
            if self._ahead_used == len(self._ahead):
                left = READ_BYTES if self._end is None else self._end - self._next_byte
                length = min(left, READ_BYTES)
                self._ahead = self._store.read_range(self._path, self._next_byte, length)
                self._next_byte += len(self._ahead)
                self._ahead_used = 0
                self._on_bytes(len(self._ahead))
            data = self._ahead[self._ahead_used : self._ahead_used + size]
            self._ahead_used += len(data)
            self._follow(data)
        except SynthError as exc:
            self.fault = exc
            return b""
        except FileNotFoundError:
            self.fault = DataError(f"{self.where}: no such file any more")
            return b""
        return data

    def placed(self, file: dict[str, Any]) -> dict[str, Any]:
        """A file of webdataset with a content that knows its place.

        webdataset leaves out some files and keeps the order of the others.
        """
        if "data" in file:
            content = Content(file["data"])
            while self._files:
                name, offset, size = self._files.popleft()
                if size == len(content) and name in (None, file["fname"]):
                    content.offset = offset
                    return file | {"data": content}
            raise ValueError(f"no header of {file['fname']!r:.100}")
        return file

    def finish(self) -> None:
        """Read what is left and check that the end is one. Raises the fault if there is one."""
        while self.read(READ_BYTES):
            pass
        if self.fault is not None:
            raise self.fault
        if self._end is not None:
            if (self._position, self._skip_bytes, self._num_zero_blocks) != (self._end, 0, 0):
                raise DataError(
                    f"{self.where}: no group of files begins at byte {self._end:,}, as one did "
                    "before; if all tars were made anew, remove the cache synth/index"
                )
        elif self._skip_bytes or self._header or self._num_zero_blocks < 2:
            raise DataError(
                f"{self.where}: ends at byte {self._position:,} without the two empty blocks that "
                "end a tar: it was cut; fetch it again"
            )

    def _follow(self, data: bytes) -> None:
        """Walk over bytes that webdataset reads. A read may end anywhere, even within a header."""
        view = memoryview(data)
        while view:
            if self._skip_bytes:
                step = min(self._skip_bytes, len(view))
                self._skip_bytes -= step
            else:
                step = min(BLOCKSIZE - len(self._header), len(view))
                self._header += view[:step]
            self._position += step
            view = view[step:]
            if len(self._header) == BLOCKSIZE:
                header, self._header = self._header, b""
                self._skip_bytes = self._bytes_after(header)

    def _bytes_after(self, header: bytes) -> int:
        """Bytes of the member whose header this is, filled up to whole blocks."""
        at = f"{self.where}: at byte {self._position - BLOCKSIZE:,}"
        if header.count(0) == BLOCKSIZE:
            self._num_zero_blocks += 1
            return 0
        if self._num_zero_blocks:
            raise DataError(f"{at} something follows the end of the tar; make it again")
        size = _number(header[_SIZE])
        total = sum(header) - sum(header[_CHECKSUM]) + _CHECKSUM_AS_SPACES
        if size is None or _number(header[_CHECKSUM]) != total:
            raise DataError(
                f"{at} expected a member, found no header of a tar: changed, compressed or no tar "
                "at all; fetch it again"
            )
        if size > MAX_MEMBER_BYTES:
            raise DataError(f"{at} a member of {size:,} bytes, at most {MAX_MEMBER_BYTES:,} fit")
        if header[_TYPE] in (b"1", b"2", b"3", b"4", b"5", b"6"):  # links, devices, folders
            self._is_long_name = False
            return 0
        if header[_TYPE] in _LONG_NAMES:
            self._is_long_name = True
        elif header[_TYPE] in _FILES:
            name = None if self._is_long_name else _name(header)
            self._files.append((name, self._position, size))
            self._is_long_name = False
        return -(-size // BLOCKSIZE) * BLOCKSIZE


def _name(header: bytes) -> str:
    """Name of the member as tarfile reads it from its header alone."""
    name, prefix = (header[part].partition(b"\0")[0] for part in (_NAME, _PREFIX))
    is_posix = header[_MAGIC] == b"ustar\x0000"
    whole = prefix + b"/" + name if prefix and is_posix else name
    return whole.decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int | None:
    """An octal field; None if it is not one (what fits MAX_MEMBER_BYTES is never in base 256)."""
    text = field.strip(b" \0")
    try:
        return int(text or b"0", 8)
    except ValueError:
        return None
