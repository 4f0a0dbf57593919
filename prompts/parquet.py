"""Captions from a column of a Parquet file, unpacked part by part.

A small Parquet file can unpack to any size, so sizes are checked at three points: what the footer
says, the length of each text before it is repeated, and (in `prompts.reading`) the characters of
all rows together. A footer that lies meets the other two.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.foundation.messages import one_line
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.prompt import MAX_CAPTION_CHARS
from prompts.rows import MAX_FILE_BYTES, Row, pick, require_columns

_PARQUET_ROWS = 8192
"""Rows of a Parquet file that are unpacked at once."""
_UTF8_BYTES = 4
"""Bytes of one character at most."""


def read_parquet(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Number and cells of each row; see `prompts.rows.Reader`."""
    try:
        yield from _rows(data, where, columns)
    # ValueError: text that is not UTF-8. MemoryError: sizes that a damaged file claims.
    except (pa.ArrowException, OSError, ValueError, MemoryError) as exc:
        raise UnreadablePromptsError(
            f"{where}: not a readable Parquet file ({one_line(exc)}); write it again"
        ) from exc


def _rows(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    # Opened twice: which columns to read as dictionaries has to be said when the file is opened,
    # and which columns it has is known only after that.
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        schema = file.schema_arrow
    require_columns(columns, schema.names, where)
    present = [name for name in columns if name in schema.names]
    for name in present:
        kind = schema.field(name).type
        if not _is_text(kind) and not pa.types.is_primitive(kind) and not pa.types.is_null(kind):
            raise UnreadablePromptsError(
                f"{where}: column {name!r} is of type {str(kind)[:80]}, expected text"
            )
    # A text that comes a million times is stored once. Read as a dictionary, it is also held in
    # memory once, so that its length is known before it is repeated.
    with pq.ParquetFile(pa.BufferReader(data), read_dictionary=present) as file:
        _require_small(file.metadata, where)
        number = 0
        for batch in file.iter_batches(_PARQUET_ROWS, columns=present, use_threads=False):
            cells = [_values(batch.column(name), name, where, number + 1) for name in present]
            for values in zip(*cells, strict=True):
                number += 1
                yield number, pick(dict(zip(present, values, strict=True)), columns)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _require_small(footer: pq.FileMetaData, where: str) -> None:
    """Refuse a file whose own footer says that it unpacks to more than MAX_FILE_BYTES."""
    size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    if size > MAX_FILE_BYTES:
        raise UnreadablePromptsError(
            f"{where}: unpacks to {size:,} bytes, at most {MAX_FILE_BYTES:,} are read; make "
            "several sets"
        )


def _values(column: pa.Array, name: str, where: str, first_row: int) -> list[Any]:
    """The cells of a column as Python values.

    Texts that are much too long are refused before they become Python values: one text may stand
    in all rows. `prompts.reading` applies the exact limit later, in characters.
    """
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
