"""Captions from a file: one a line, or a column of a table. One reader for each suffix."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from manifests.foundation.messages import one_line, redact
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.prompt import MAX_CAPTION_CHARS, Prompt

OPTIONAL_COLUMNS = ("label", "licence", "source", "negative_prompt")


def read_prompts(url: str, *, caption_column: str = "caption") -> list[Prompt]:
    """The captions of a file in its order.

    Args:
        url: Path or fsspec URL; the suffix says the format (.txt, .csv, .tsv, .jsonl, .parquet).
        caption_column: Column of the captions; the other columns that are read are
            `OPTIONAL_COLUMNS`.

    Raises:
        UnreadablePromptsError: Missing, empty, of an unknown suffix, not UTF-8, no such column.
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
    data = _read_bytes(url, where)
    rows = _READERS[suffix](data, where, caption_column)
    name = PurePosixPath(where).name
    found = [_to_prompt(row, f"{where}, row {number}", name) for number, row in rows]
    if not found:
        raise UnreadablePromptsError(f"{where}: holds no caption, expected at least one")
    return found


def _read_bytes(url: str, where: str) -> bytes:
    if "::" in url or url.startswith("pipe:"):
        raise UnreadablePromptsError(f"{where}: chained and pipe URLs are not read; copy the file")
    try:
        with fsspec.open(url, "rb") as file:
            data: bytes = file.read()
    except FileNotFoundError as exc:
        raise UnreadablePromptsError(f"{where}: no such file; give --prompts FILE or URL") from exc
    except Exception as exc:  # libraries of remote schemes raise errors of their own
        told = getattr(exc, "strerror", None) or one_line(exc, about=url)
        raise UnreadablePromptsError(f"{where}: {told}; look at the file or its address") from exc
    if not data.strip():
        raise UnreadablePromptsError(f"{where}: is empty, expected at least one caption")
    return data


def _decode(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise UnreadablePromptsError(
            f"{where}, line {line}: not UTF-8 (byte {data[exc.start]:#04x}); convert the file, "
            "for example with iconv"
        ) from exc
    if "\0" in text:
        raise UnreadablePromptsError(f"{where}: a binary file, expected text in UTF-8")
    return text


Row = Mapping[str, Any]


def _read_lines(data: bytes, where: str, caption_column: str) -> Iterator[tuple[int, Row]]:
    # Not splitlines(): it also cuts a caption at form feeds and at U+2028.
    lines = io.StringIO(_decode(data, where), newline=None)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, {"caption": line.rstrip("\n")}


def _read_separated(delimiter: str) -> Callable[[bytes, str, str], Iterator[tuple[int, Row]]]:
    def read(data: bytes, where: str, caption_column: str) -> Iterator[tuple[int, Row]]:
        reader = csv.DictReader(
            io.StringIO(_decode(data, where), newline=""), delimiter=delimiter, strict=True
        )
        try:
            _require_column(caption_column, reader.fieldnames or (), where)
            for number, row in enumerate(reader, start=1):
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
    for number, line in enumerate(_decode(data, where).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise UnreadablePromptsError(
                f"{where}, line {number}: not JSON ({exc}); write one object a line"
            ) from exc
        if not isinstance(row, dict):
            raise UnreadablePromptsError(f"{where}, line {number}: expected a JSON object a line")
        _require_column(caption_column, row, f"{where}, line {number}")
        yield number, _pick(row, caption_column)


def _read_parquet(data: bytes, where: str, caption_column: str) -> Iterator[tuple[int, Row]]:
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        _require_column(caption_column, names, where)
        wanted = [name for name in (caption_column, *OPTIONAL_COLUMNS) if name in names]
        rows = file.read(columns=wanted).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise UnreadablePromptsError(
            f"{where}: not a readable Parquet file ({one_line(exc)}); write it again"
        ) from exc
    for number, row in enumerate(rows, start=1):
        yield number, _pick(row, caption_column)


_READERS: dict[str, Callable[[bytes, str, str], Iterator[tuple[int, Row]]]] = {
    ".txt": _read_lines,
    ".csv": _read_separated(","),
    ".tsv": _read_separated("\t"),
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}


def _require_column(column: str, names: Any, where: str) -> None:
    if column not in names:
        near = get_close_matches(column, list(names), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnreadablePromptsError(
            f"{where}: no column {column!r} among {', '.join(map(str, names))}; "
            f"give --caption-column{hint}"
        )


def _pick(row: Row, caption_column: str) -> Row:
    return {"caption": row[caption_column]} | {
        name: row[name] for name in OPTIONAL_COLUMNS if name in row and name != caption_column
    }


def _to_prompt(row: Row, where: str, file_name: str) -> Prompt:
    caption = row["caption"]
    if not isinstance(caption, str) or not caption.strip():
        raise BadPromptError(
            f"{where}: the caption is {caption!r}, expected text; fill or remove it"
        )
    values = {name: "" if row.get(name) is None else str(row[name]) for name in OPTIONAL_COLUMNS}
    for name, text in {"caption": caption, **values}.items():
        if len(text) > MAX_CAPTION_CHARS:
            raise BadPromptError(
                f"{where}: the {name} has {len(text):,} characters, at most "
                f"{MAX_CAPTION_CHARS:,} are taken; shorten it"
            )
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
