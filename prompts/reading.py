"""Captions from a file: one on each line, or a column of a table. One reader for each suffix.

Files come from anywhere and have any size, so everything that a file can make us hold in memory is
bounded (`prompts.rows`), and what a file says about its own size is not believed.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from manifests.foundation.messages import one_line, redact
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.lines import Lines
from prompts.opening import STANDARD_INPUT, CaptionBytes, open_captions
from prompts.parquet import read_parquet
from prompts.prompt import MAX_CAPTION_CHARS, Prompt
from prompts.rows import (
    OPTIONAL_COLUMNS,
    Row,
    is_encodable,
    pick,
    require_bounded,
    require_columns,
)

Reader = Callable[[CaptionBytes, Sequence[str]], Iterator[tuple[int, Row]]]
"""Reader(file, columns) yields the number and the cells of each row.

`columns` are the columns to read, the caption's first. In the cells the caption's column is named
`caption`, whatever it is named in the file. Example: `(1, {"caption": "a red fox", "label":
"fox"})`."""


def read_prompts(
    url: str, *, caption_column: str = "caption", value_columns: Sequence[str] = ()
) -> Iterator[Prompt]:
    """Yield the captions of a file in its order, and hold a piece of it at a time.

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
    columns = (caption_column, *OPTIONAL_COLUMNS, *value_columns)
    with open_captions(url, where) as file:
        count = num_chars = 0
        for number, row in _READERS[suffix](file, columns):
            prompt = _to_prompt(row, value_columns, f"{where}, row {number}")
            count += 1
            num_chars += len(prompt.caption) + sum(map(len, prompt.values.values()))
            num_chars += len(prompt.label) + len(prompt.licence) + len(prompt.source)
            require_bounded(count, num_chars, file.num_bytes, where)
            yield prompt
        if not count:
            raise UnreadablePromptsError(f"{where}: holds no caption, expected at least one")


def _read_lines(file: CaptionBytes, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    # Not splitlines(), which would also cut a caption at form feeds and at U+2028.
    lines = Lines(file, newline=None)
    for number, line in enumerate(lines, start=1):
        lines.begin_row()
        if line.strip():
            yield number, {"caption": line.rstrip("\n")}


def _read_separated(delimiter: str) -> Reader:
    def read(file: CaptionBytes, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        # The csv module has to see the line ends itself, as a quoted field may hold some. It is
        # strict, because it would otherwise accept a quote that is never closed.
        lines, where = Lines(file, newline=""), file.where
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


def _read_json_lines(file: CaptionBytes, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    # Only a line feed ends a line here; a carriage return is white space in JSON.
    lines, where = Lines(file, newline="\n"), file.where
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
        if not is_encodable(text):  # JSON can spell half of a surrogate pair
            raise BadPromptError(f"{where}: the {name} holds half a surrogate pair; mend the file")
    return Prompt(
        caption=caption,
        label=cells["label"],
        licence=cells["licence"],
        source=cells["source"],
        values={name: cells[name] for name in value_columns},
        where=where,
    )
