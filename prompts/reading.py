"""Captions from a file: one a line, or a column of a table. One reader for each suffix.

Files come from anywhere, so all that a file can make us hold in memory is bounded, and what it says
of its own size is not believed. The bounds leave room for ten million captions.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from manifests.foundation.files import read_regular
from manifests.foundation.messages import one_line, redact
from manifests.foundation.plugins import did_you_mean
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.prompt import MAX_CAPTION_CHARS, Prompt

OPTIONAL_COLUMNS = ("label", "licence", "source", "negative_prompt")

MAX_FILE_BYTES = 2 << 30
"""Largest file, as it is stored and, for Parquet, unpacked: 200 bytes for each of 10^7 captions."""
MAX_TEXT_CHARS = 2 << 30
"""Characters of all the captions, labels and other texts of one file, repeated ones included."""
MAX_PROMPTS = 50_000_000
"""Rows of one file."""
MAX_ROW_CHARS = 1 << 20
"""Characters of one row, with the columns that are not read."""

_PARQUET_ROWS = 8192
"""Rows of a Parquet file that are unpacked at once."""
_UTF8_BYTES = 4
"""Most bytes of one character."""
_SHOWN = 50
"""Columns that a message lists, and characters of the name of each."""

Row = Mapping[str, Any]
Reader = Callable[[bytes, str, str], Iterator[tuple[int, Row]]]


def read_prompts(url: str, *, caption_column: str = "caption") -> Iterator[Prompt]:
    """The captions of a file in its order, one after the other and never all at once.

    The file itself is held in memory until the last one is taken.

    Args:
        url: Path or fsspec URL; the suffix says the format (.txt, .csv, .tsv, .jsonl, .parquet).
        caption_column: Column of the captions; the other columns that are read are
            `OPTIONAL_COLUMNS`.

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
    for number, row in _READERS[suffix](_read_bytes(url, where), where, caption_column):
        prompt = _to_prompt(row, f"{where}, row {number}", name)
        count += 1
        num_chars += sum(len(getattr(prompt, column)) for column in ("caption", *OPTIONAL_COLUMNS))
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


def _read_lines(data: bytes, where: str, caption_column: str) -> Iterator[tuple[int, Row]]:
    # Not splitlines(): it also cuts a caption at form feeds and at U+2028.
    lines = _Lines(data, where, newline=None)
    for number, line in enumerate(lines, start=1):
        lines.begin_row()
        if line.strip():
            yield number, {"caption": line.rstrip("\n")}


def _read_separated(delimiter: str) -> Reader:
    def read(data: bytes, where: str, caption_column: str) -> Iterator[tuple[int, Row]]:
        lines = _Lines(data, where, newline="")
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            _require_columns(caption_column, reader.fieldnames or (), where)
            lines.begin_row()
            for number, row in enumerate(reader, start=1):
                lines.begin_row()
                if None in row or None in row.values():
                    raise BadPromptError(
                        f"{where}, row {number}: has not as many fields as the header; "
                        "quote fields that hold the separator"
                    )
                yield number, _pick(row, caption_column)
        except csv.Error as exc:
            raise UnreadablePromptsError(
                f"{where}, line {reader.line_num + 1}: {exc}; mend the quotes"
            ) from exc

    return read


def _read_json_lines(data: bytes, where: str, caption_column: str) -> Iterator[tuple[int, Row]]:
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
        _require_columns(caption_column, row, f"{where}, line {number}")
        yield number, _pick(row, caption_column)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError if a key comes twice, of which `json` takes the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"two keys of one object are {key!r}")
    return row


def _read_parquet(data: bytes, where: str, caption_column: str) -> Iterator[tuple[int, Row]]:
    try:
        yield from _parquet_rows(data, where, caption_column)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as exc:
        raise UnreadablePromptsError(
            f"{where}: not a readable Parquet file ({one_line(exc)}); write it again"
        ) from exc


def _parquet_rows(data: bytes, where: str, caption_column: str) -> Iterator[tuple[int, Row]]:
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        schema = file.schema_arrow
    _require_columns(caption_column, schema.names, where)
    wanted = [name for name in (caption_column, *OPTIONAL_COLUMNS) if name in schema.names]
    for name in wanted:
        kind = schema.field(name).type
        if not _is_text(kind) and not pa.types.is_primitive(kind) and not pa.types.is_null(kind):
            raise UnreadablePromptsError(
                f"{where}: column {name!r} is of type {str(kind)[:80]}, expected text"
            )
    # A text that comes a million times is stored once. Read as a dictionary it also stays one text
    # in memory, so that its length is known before it is repeated.
    with pq.ParquetFile(pa.BufferReader(data), read_dictionary=wanted) as file:
        _require_small(file.metadata, where)
        number = 0
        for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted, use_threads=False):
            columns = [_values(batch.column(name), name, where, number + 1) for name in wanted]
            for values in zip(*columns, strict=True):
                number += 1
                yield number, _pick(dict(zip(wanted, values, strict=True)), caption_column)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _require_small(footer: pq.FileMetaData, where: str) -> None:
    size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    if size > MAX_FILE_BYTES:
        raise UnreadablePromptsError(
            f"{where}: unpacks to {size:,} bytes, at most {MAX_FILE_BYTES:,} are read; make "
            "several sets"
        )


def _values(column: pa.Array, name: str, where: str, first_row: int) -> list[Any]:
    """A column as Python has it, after texts that `_to_prompt` would refuse are refused."""
    if not _is_text(column.type):
        return list(column.to_pylist())
    is_dictionary = pa.types.is_dictionary(column.type)
    texts = column.dictionary if is_dictionary else column
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > MAX_CAPTION_CHARS * _UTF8_BYTES:
        raise BadPromptError(
            f"{where}, rows {first_row:,} to {first_row + len(column) - 1:,}: a {name} has "
            f"{longest:,} bytes, at most {MAX_CAPTION_CHARS:,} characters are taken; shorten it"
        )
    return list((column.dictionary_decode() if is_dictionary else column).to_pylist())


_READERS: dict[str, Reader] = {
    ".txt": _read_lines,
    ".csv": _read_separated(","),
    ".tsv": _read_separated("\t"),
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}


def _require_columns(caption_column: str, names: Iterable[str], where: str) -> None:
    """The caption's column must be there, and no column that is read may come twice."""
    counts = Counter(iter(names))
    for name in (caption_column, *OPTIONAL_COLUMNS):
        if counts[name] > 1:
            raise UnreadablePromptsError(f"{where}: two columns are named {name!r}; rename one")
    if caption_column not in counts:
        known = [name[:_SHOWN] for name in counts][:_SHOWN]
        raise UnreadablePromptsError(
            f"{where}: no column {caption_column!r} among {', '.join(known)}; "
            f"give --caption-column{did_you_mean(caption_column, known)}"
        )


def _pick(row: Row, caption_column: str) -> Row:
    return {"caption": row[caption_column]} | {
        name: row[name] for name in OPTIONAL_COLUMNS if name in row and name != caption_column
    }


def _to_prompt(row: Row, where: str, file_name: str) -> Prompt:
    caption = row["caption"]
    if not isinstance(caption, str) or not caption.strip():
        raise BadPromptError(
            f"{where}: the caption is {caption!r:.200}, expected text; fill or remove it"
        )
    values = {name: "" if row.get(name) is None else str(row[name]) for name in OPTIONAL_COLUMNS}
    for name, text in {"caption": caption, **values}.items():
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
        caption=caption, where=where, **values | {"source": values["source"] or file_name}
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
