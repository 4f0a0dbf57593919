"""Captions from a column of a Parquet file, unpacked a part at a time."""

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
"""Most bytes of one character."""


def read_parquet(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Number and cells of each row; see `prompts.rows.Reader`."""
    try:
        yield from _rows(data, where, columns)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as exc:
        raise UnreadablePromptsError(
            f"{where}: not a readable Parquet file ({one_line(exc)}); write it again"
        ) from exc


def _rows(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        schema = file.schema_arrow
    require_columns(columns, schema.names, where)
    wanted = [name for name in columns if name in schema.names]
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
            cells = [_values(batch.column(name), name, where, number + 1) for name in wanted]
            for values in zip(*cells, strict=True):
                number += 1
                yield number, pick(dict(zip(wanted, values, strict=True)), columns)


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
