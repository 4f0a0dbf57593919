"""Captions from a file: one a line, or a column of a table. One reader for each suffix.

Files come from anywhere, so all that a file can make us hold in memory is bounded, and what it says
of its own size is not believed. The bounds leave room for ten million captions.
"""

import csv
import io
import json
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


def read_prompts(
    url: str, *, caption_column: str = "caption", value_columns: Sequence[str] = ()
) -> Iterator[Prompt]:
    """The captions of a file in its order, one after the other and never all at once.

    The file itself is held in memory until the last one is taken.

    Args:
        url: Path or fsspec URL; the suffix says the format (.txt, .csv, .tsv, .jsonl, .parquet).
        caption_column: Column of the captions. `OPTIONAL_COLUMNS` are read too.
        value_columns: Further columns to read, where the file has them.

    Raises:
        UnreadablePromptsError: The file is missing, empty, no regular file, of an unknown suffix,
            not UTF-8, beyond one of the bounds above, or without such a column.
        BadPromptError: A row without a caption, too long, or with text that cannot be rendered.
    """
    where = redact(url)
    suffix = PurePosixPath(where).suffix.lower()
    if suffix not in _READERS:
        raise UnreadablePromptsError(
            f"{where}: captions are read from {', '.join(_READERS)}; rename or convert the file"
        )
    if suffix == ".txt" and caption_column != "caption":
        raise UnreadablePromptsError(
            f"{where}: a text file has no columns; drop --caption-column {caption_column}"
        )
    name = PurePosixPath(where).name
    count = num_chars = 0
    columns = (caption_column, *OPTIONAL_COLUMNS, *value_columns)
    for number, row in _READERS[suffix](_read_bytes(url, where), where, columns):
        prompt = _to_prompt(row, value_columns, f"{where}, row {number}", name)
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
    if "::" in url or url.startswith("pipe:"):
        raise UnreadablePromptsError(f"{where}: chained and pipe URLs are not read; copy the file")
    try:
        files, path = url_to_fs(url)
        if isinstance(files, LocalFileSystem):
            data = read_regular(Path(path), max_bytes=MAX_FILE_BYTES)
        else:
            with fsspec.open(url, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as exc:
        raise UnreadablePromptsError(f"{where}: no such file; give --prompts FILE or URL") from exc
    except Exception as exc:  # libraries of remote schemes raise errors of their own
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
    """Lines of UTF-8 text with their ends, decoded one after the other."""

    def __init__(self, data: bytes, where: str, *, newline: str | None) -> None:
        self._data = data
        self._where = where
        self._text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=newline)
        self._num_chars = 0
        if b"\0" in data:
            self._require_utf8()
            raise UnreadablePromptsError(f"{where}: a binary file, expected text in UTF-8")

    def begin_row(self) -> None:
        """A row that is read from here on may have MAX_ROW_CHARS."""
        self._num_chars = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
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
        try:
            self._data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            line = self._data[: exc.start].count(b"\n") + 1
            raise UnreadablePromptsError(
                f"{self._where}, line {line}: not UTF-8 (byte {self._data[exc.start]:#04x}); "
                "convert the file, for example with iconv"
            ) from exc


def _read_lines(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    # Not splitlines(): it also cuts a caption at form feeds and at U+2028.
    lines = _Lines(data, where, newline=None)
    for number, line in enumerate(lines, start=1):
        lines.begin_row()
        if line.strip():
            yield number, {"caption": line.rstrip("\n")}


def _read_separated(delimiter: str) -> Reader:
    def read(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        lines = _Lines(data, where, newline="")
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            require_columns(columns, reader.fieldnames or (), where)
            lines.begin_row()
            for number, row in enumerate(reader, start=1):
                lines.begin_row()
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
    """A JSON object. Raises ValueError if a key comes twice, of which `json` takes the last."""
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


def _to_prompt(row: Row, value_columns: Sequence[str], where: str, file_name: str) -> Prompt:
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
        if not text.isascii() and not _is_encodable(text):
            raise BadPromptError(f"{where}: the {name} holds half a surrogate pair; mend the file")
    return Prompt(
        caption=caption,
        label=cells["label"],
        licence=cells["licence"],
        source=cells["source"] or file_name,
        values={name: cells[name] for name in value_columns},
        where=where,
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
