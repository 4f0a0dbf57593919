"""Captions from a file: one on each line, or a column of a table. One reader for each suffix.

Files come from anywhere, so everything that a file can make us hold in memory is bounded, and what
a file says about its own size is not believed. The bounds (`prompts.rows`) leave room for ten
million captions.
"""

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from manifests.foundation.files import read_regular
from manifests.foundation.messages import one_line, redact
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.parquet import read_parquet
from prompts.prompt import MAX_CAPTION_CHARS, Prompt
from prompts.rows import (
    MAX_FILE_BYTES,
    MAX_PROMPTS,
    MAX_ROW_CHARS,
    MAX_TEXT_CHARS,
    OPTIONAL_COLUMNS,
    Reader,
    Row,
    pick,
    require_columns,
)

STANDARD_INPUT = "-"


def read_prompts(
    url: str, *, caption_column: str = "caption", value_columns: Sequence[str] = ()
) -> Iterator[Prompt]:
    """Yield the captions of a file in its order, without ever holding all of them.

    The bytes of the file are held in memory until the last caption is taken.

    Args:
        url: Path or fsspec URL; the suffix says the format (.txt, .csv, .tsv, .jsonl, .parquet). Or
            `-` for standard input, with a caption on each line.
        caption_column: Column of the captions. `OPTIONAL_COLUMNS` are read too.
        value_columns: Further columns to read, where the file has them.

    Raises:
        UnreadablePromptsError: The file is missing, empty, no regular file, of an unknown suffix,
            not UTF-8, beyond one of the bounds of `prompts.rows`, or without the caption column.
        BadPromptError: A row has no caption, too long a text, or one that cannot be rendered.
    """
    # A URL may carry credentials, and `where` goes into messages.
    is_piped = url == STANDARD_INPUT
    where = "standard input" if is_piped else redact(url)
    suffix = ".txt" if is_piped else PurePosixPath(where).suffix.lower()
    if suffix not in _READERS:
        raise UnreadablePromptsError(
            f"{where}: captions are read from {', '.join(_READERS)}; rename or convert the file"
        )
    if suffix == ".txt" and caption_column != "caption":
        raise UnreadablePromptsError(
            f"{where}: a text file has no columns; drop --caption-column {caption_column}"
        )
    count = num_chars = 0
    columns = (caption_column, *OPTIONAL_COLUMNS, *value_columns)
    for number, row in _READERS[suffix](_read_bytes(url, where), where, columns):
        prompt = _to_prompt(row, value_columns, f"{where}, row {number}")
        count += 1
        num_chars += len(prompt.caption) + sum(map(len, prompt.values.values()))
        num_chars += sum(len(getattr(prompt, column)) for column in OPTIONAL_COLUMNS)
        if count > MAX_PROMPTS:
            raise UnreadablePromptsError(
                f"{where}: more than {MAX_PROMPTS:,} captions; make several sets"
            )
        if num_chars > MAX_TEXT_CHARS:
            raise UnreadablePromptsError(
                f"{where}: more than {MAX_TEXT_CHARS:,} characters of text; make several sets"
            )
        yield prompt
    if not count:
        raise UnreadablePromptsError(f"{where}: holds no caption, expected at least one")


def _read_bytes(url: str, where: str) -> bytes:
    # Such URLs can run a command, or reach files through another one; fsspec would follow them.
    if "::" in url or url.startswith("pipe:"):
        raise UnreadablePromptsError(f"{where}: chained and pipe URLs are not read; copy the file")
    try:
        # One byte more than the bound, to see that a file is larger.
        if url == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        elif isinstance((local := url_to_fs(url))[0], LocalFileSystem):
            data = read_regular(Path(local[1]), max_bytes=MAX_FILE_BYTES)
        else:
            with fsspec.open(url, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as exc:
        raise UnreadablePromptsError(f"{where}: no such file; give --prompts FILE or URL") from exc
    except Exception as exc:  # each library of a remote scheme raises errors of its own
        reason = getattr(exc, "strerror", None) or one_line(exc, about=url)
        raise UnreadablePromptsError(f"{where}: {reason}; look at the file or its address") from exc
    if len(data) > MAX_FILE_BYTES:
        raise UnreadablePromptsError(
            f"{where}: is larger than {MAX_FILE_BYTES:,} bytes; make several sets"
        )
    if not data or data.isspace():
        raise UnreadablePromptsError(f"{where}: is empty, expected at least one caption")
    return data


class _Lines:
    """Lines of UTF-8 text with their line ends, decoded one after the other.

    `newline` is that of `open`: None makes every line end a line feed, "" and "\\n" keep them.

    Raises:
        UnreadablePromptsError: The bytes are not UTF-8 or hold a NUL, or a row is too long. Some of
            it is known only when the line is read.
    """

    def __init__(self, data: bytes, where: str, *, newline: str | None) -> None:
        self._data = data
        self._where = where
        self._text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=newline)
        self._num_chars = 0
        if b"\0" in data:
            # Text in UTF-16 is full of NULs too, and "not UTF-8" helps its owner more.
            self._require_utf8()
            raise UnreadablePromptsError(f"{where}: a binary file, expected text in UTF-8")

    def begin_row(self) -> None:
        """Count characters from 0 again: a row may have MAX_ROW_CHARS, on one line or several."""
        self._num_chars = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            # With a limit, because a file without line ends would be one line of 2 GiB.
            line = self._text.readline(MAX_ROW_CHARS + 1)
        except UnicodeDecodeError:
            self._require_utf8()
            raise
        self._num_chars += len(line)
        if self._num_chars > MAX_ROW_CHARS:
            raise UnreadablePromptsError(
                f"{self._where}: a row of more than {MAX_ROW_CHARS:,} characters; is it text with "
                "a caption a row?"
            )
        if not line:
            raise StopIteration
        return line

    def _require_utf8(self) -> None:
        """Refuse bytes that are not UTF-8, with the line and the byte.

        All of the data is decoded again: the error of the stream counts from the start of its
        current chunk, not from the start of the file.
        """
        try:
            self._data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            line = self._data[: exc.start].count(b"\n") + 1
            raise UnreadablePromptsError(
                f"{self._where}, line {line}: not UTF-8 (byte {self._data[exc.start]:#04x}); "
                "convert the file, for example with iconv"
            ) from exc


def _read_lines(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    # Not splitlines(), which would also cut a caption at form feeds and at U+2028.
    lines = _Lines(data, where, newline=None)
    for number, line in enumerate(lines, start=1):
        lines.begin_row()
        if line.strip():
            yield number, {"caption": line.rstrip("\n")}


def _read_separated(delimiter: str) -> Reader:
    def read(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        # The csv module has to see the line ends itself, as a quoted field may hold some. It is
        # strict, because it would otherwise accept a quote that is never closed.
        lines = _Lines(data, where, newline="")
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            require_columns(columns, reader.fieldnames or (), where)
            lines.begin_row()
            for number, row in enumerate(reader, start=1):
                lines.begin_row()
                # DictReader puts surplus fields under the key None, and None for missing ones.
                if None in row or None in row.values():
                    raise BadPromptError(
                        f"{where}, row {number}: has not as many fields as the header; "
                        "quote fields that hold the separator"
                    )
                yield number, pick(row, columns)
        except csv.Error as exc:
            raise UnreadablePromptsError(
                f"{where}, line {reader.line_num + 1}: {exc}; mend the quotes"
            ) from exc

    return read


def _read_json_lines(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    # Only a line feed ends a line here; a carriage return is white space in JSON.
    lines = _Lines(data, where, newline="\n")
    for number, line in enumerate(lines, start=1):
        lines.begin_row()
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as exc:
            raise UnreadablePromptsError(
                f"{where}, line {number}: not JSON ({one_line(exc)}); write one object a line"
            ) from exc
        if not isinstance(row, dict):
            raise UnreadablePromptsError(f"{where}, line {number}: expected a JSON object a line")
        require_columns(columns, row, f"{where}, line {number}")
        yield number, pick(row, columns)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError if it has a key twice: `json` would keep the last value."""
    row = dict(pairs)
    if len(row) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"two keys of one object are {key!r}")
    return row


_READERS: dict[str, Reader] = {
    ".txt": _read_lines,
    ".csv": _read_separated(","),
    ".tsv": _read_separated("\t"),
    ".jsonl": _read_json_lines,
    ".parquet": read_parquet,
}


def _to_prompt(row: Row, value_columns: Sequence[str], where: str) -> Prompt:
    """Check the cells of a row. Nothing in it depends on the name of the file but `where`."""
    caption = row["caption"]
    if not isinstance(caption, str) or not caption.strip():
        raise BadPromptError(
            f"{where}: the caption is {caption!r:.200}, expected text; fill or remove it"
        )
    names = (*OPTIONAL_COLUMNS, *value_columns)
    cells = {name: "" if row.get(name) is None else str(row[name]) for name in names}
    for name, text in {"caption": caption, **cells}.items():
        if len(text) > MAX_CAPTION_CHARS:
            raise BadPromptError(
                f"{where}: the {name} has {len(text):,} characters, at most "
                f"{MAX_CAPTION_CHARS:,} are taken; shorten it"
            )
        if "\0" in text:
            raise BadPromptError(f"{where}: the {name} holds a NUL character; remove it")
        # JSON can spell half of a surrogate pair. isascii() comes first because it is fast.
        if not text.isascii() and not _is_encodable(text):
            raise BadPromptError(f"{where}: the {name} holds half a surrogate pair; mend the file")
    return Prompt(
        caption=caption,
        label=cells["label"],
        licence=cells["licence"],
        source=cells["source"],
        values={name: cells[name] for name in value_columns},
        where=where,
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
