"""Lines of UTF-8 text from a file of any size, each of bounded length."""

import codecs
import io
from collections.abc import Iterator
from typing import Any

from prompts.errors import UnreadablePromptsError
from prompts.opening import PIECE_BYTES, CaptionBytes
from prompts.rows import MAX_ROW_CHARS


class Lines:
    """Lines with their line ends, decoded one after the other.

    `newline` is that of `open`: None makes every line end a line feed, "" and "\\n" keep them.

    Raises:
        UnreadablePromptsError: The bytes are not UTF-8 or hold a NUL, or a row is too long. It is
            known only when the line is read.
    """

    def __init__(self, file: CaptionBytes, *, newline: str | None) -> None:
        self._where = file.where
        buffered = io.BufferedReader(_Checked(file), PIECE_BYTES)
        self._text = io.TextIOWrapper(buffered, encoding="utf-8-sig", newline=newline)
        self._num_chars = 0

    def begin_row(self) -> None:
        """Count characters from 0 again: a row may have MAX_ROW_CHARS, on one line or several."""
        self._num_chars = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        # With a limit, because a file without line ends would be one line of all its bytes.
        line = self._text.readline(MAX_ROW_CHARS + 1)
        self._num_chars += len(line)
        if self._num_chars > MAX_ROW_CHARS:
            raise UnreadablePromptsError(
                f"{self._where}: a row of more than {MAX_ROW_CHARS:,} characters; is it text with "
                "a caption a row?"
            )
        if not line:
            raise StopIteration
        return line


class _Checked(io.RawIOBase):
    """The bytes of a file, of which each piece is checked before a line of it is given out."""

    def __init__(self, file: CaptionBytes) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._num_lines = 0
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._piece:
            piece = self._file.read()
            self._require_text(piece)
            self._piece = memoryview(piece)
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size

    def _require_text(self, piece: bytes) -> None:
        where = self._file.where
        try:
            self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as exc:
            # What it was decoding: the piece, after the bytes of a character that began before it.
            line = self._num_lines + exc.object[: exc.start].count(b"\n") + 1
            raise UnreadablePromptsError(
                f"{where}, line {line}: not UTF-8 (byte {exc.object[exc.start]:#04x}); convert the "
                "file, for example with iconv"
            ) from exc
        # Text in UTF-16 is full of NULs too, and "not UTF-8" helps its owner more.
        if b"\0" in piece:
            raise UnreadablePromptsError(f"{where}: a binary file, expected text in UTF-8")
        self._num_lines += piece.count(b"\n")
