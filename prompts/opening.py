"""A file of captions as it is opened: a path, a URL or standard input, read in pieces.

Files come from anywhere, so only regular files of this machine are opened, and what a file says
about its own size is not believed.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from manifests.foundation.files import require_regular
from manifests.foundation.messages import one_line
from manifests.foundation.scratch import scratch_errors
from prompts.errors import UnreadablePromptsError
from prompts.rows import MAX_FILE_BYTES

STANDARD_INPUT = "-"

PIECE_BYTES = 1 << 20


class CaptionBytes:
    """The bytes of an open file of captions, from its start.

    Raises:
        UnreadablePromptsError: The file is empty, is larger than MAX_FILE_BYTES, changes while it
            is read, or its storage refuses. Some of it is known only when a piece is read.
    """

    def __init__(self, file: BinaryIO, url: str, where: str, size: int | None) -> None:
        """
        Args:
            url: What the user gave, which may hold secrets.
            where: The same for messages.
            size: Bytes of a file of this machine; None for another one.
        """
        self._file, self._url, self.where, self._size = file, url, where, size
        self.num_bytes = 0
        """How many have been read."""
        self._head = b""
        if size is not None and size > MAX_FILE_BYTES:
            raise self._too_large()
        # No further than this: a file of blanks need not end.
        while not self._head.strip() and len(self._head) <= PIECE_BYTES:
            if not (piece := self._next()):
                raise UnreadablePromptsError(f"{where}: is empty, expected at least one caption")
            self._head += piece

    def read(self) -> bytes:
        """The next piece; none of its bytes at the end of the file."""
        if self._head:
            piece, self._head = self._head, b""
            return piece
        return self._next()

    def _next(self) -> bytes:
        with _errors(self._url, self.where):
            piece = self._file.read(PIECE_BYTES)
        self.num_bytes += len(piece)
        if self.num_bytes > MAX_FILE_BYTES:
            raise self._too_large()
        size = self.num_bytes if self._size is None else self._size
        if self.num_bytes > size or (not piece and self.num_bytes < size):
            raise self._changed()
        return piece

    @contextmanager
    def whole(self) -> Iterator[tuple[BinaryIO, int]]:
        """A file that can be read at any place, and its size: a copy where this one cannot."""
        if self._size is not None:
            self.num_bytes = self._size
            yield self._file, self._size
            if os.fstat(self._file.fileno()).st_size != self._size:
                raise self._changed()
            return
        with scratch_errors():
            copy = tempfile.TemporaryFile()  # noqa: SIM115
        with copy:
            while piece := self.read():
                with scratch_errors():
                    copy.write(piece)
            yield copy, self.num_bytes

    def _too_large(self) -> UnreadablePromptsError:
        return UnreadablePromptsError(
            f"{self.where}: is larger than {MAX_FILE_BYTES:,} bytes; make several sets"
        )

    def _changed(self) -> UnreadablePromptsError:
        return UnreadablePromptsError(
            f"{self.where}: changed while it was read; look at the file or its address"
        )


@contextmanager
def open_captions(url: str, where: str) -> Iterator[CaptionBytes]:
    """Open a file of captions.

    Args:
        url: Path or fsspec URL, or `-` for standard input.
        where: The same for messages, without secrets.

    Raises:
        UnreadablePromptsError: It is missing, empty, no regular file, or cannot be opened.
    """
    # Such URLs can run a command, or reach files through another one; fsspec would follow them.
    if "::" in url or url.startswith("pipe:"):
        raise UnreadablePromptsError(f"{where}: chained and pipe URLs are not read; copy the file")
    with ExitStack() as stack:
        with _errors(url, where):
            file, size = stack.enter_context(_opened(url))
        yield CaptionBytes(file, url, where, size)


@contextmanager
def _opened(url: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """A file that is open, and its size if it is one of this machine."""
    if url == STANDARD_INPUT:
        yield sys.stdin.buffer, None
    elif isinstance((local := url_to_fs(url))[0], LocalFileSystem):
        size = require_regular(Path(local[1]))
        with Path(local[1]).open("rb") as file:
            yield file, size
    else:
        with fsspec.open(url, "rb") as remote:
            yield remote, None


@contextmanager
def _errors(url: str, where: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        raise UnreadablePromptsError(f"{where}: no such file; give --prompts FILE or URL") from exc
    except Exception as exc:  # each library of a remote scheme raises errors of its own
        reason = getattr(exc, "strerror", None) or one_line(exc, about=url)
        raise UnreadablePromptsError(f"{where}: {reason}; look at the file or its address") from exc
