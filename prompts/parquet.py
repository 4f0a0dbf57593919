"""Captions from a column of a Parquet file, unpacked part by part.

A small Parquet file can unpack to any size, so sizes are checked at four points: what the footer
says of a row group, the texts of each dictionary before they are repeated, those of each batch
before they become Python values, and (`require_bounded`) the rows and characters of the whole file.
A footer that lies meets the other three.
"""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.foundation.messages import one_line
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.opening import PIECE_BYTES, CaptionBytes
from prompts.prompt import MAX_CAPTION_CHARS
from prompts.rows import Row, pick, require_columns

_PARQUET_ROWS = 1024
"""Rows of a Parquet file that are unpacked at once."""
MAX_GROUP_BYTES = 2 << 30
"""Of one row group, as it is unpacked: each of its columns may be one page, which is held whole."""
MAX_FOOTER_BYTES = 64 << 20
_MAX_TEXT_BYTES = 4 * MAX_CAPTION_CHARS
"""A character of UTF-8 has four bytes at most."""
_TAIL = 8
"""A Parquet file ends with the length of its footer, in 4 bytes, and 4 magic bytes."""


def read_parquet(file: CaptionBytes, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Number and cells of each row; see `prompts.reading.Reader`."""
    where = file.where
    try:
        with file.whole() as (source, size):
            yield from _rows(source, size, where, columns)
    # ValueError: text that is not UTF-8. MemoryError: sizes that a damaged file claims.
    except (pa.ArrowException, OSError, ValueError, MemoryError) as exc:
        raise UnreadablePromptsError(
            f"{where}: not a readable Parquet file ({one_line(exc)}); write it again"
        ) from exc


def _rows(
    source: BinaryIO, size: int, where: str, columns: Sequence[str]
) -> Iterator[tuple[int, Row]]:
    source.seek(max(0, size - _TAIL))
    length = int.from_bytes(source.read(_TAIL)[:4], "little")
    if MAX_FOOTER_BYTES < length <= size:
        raise UnreadablePromptsError(
            f"{where}: has a footer of {length:,} bytes, at most {MAX_FOOTER_BYTES:,} are read; "
            "write it again with larger row groups"
        )
    # Opened twice: which columns to read as dictionaries has to be said when the file is opened,
    # and which columns it has is known only after that.
    first = pq.ParquetFile(source)
    schema = first.schema_arrow
    require_columns(columns, schema.names, where)
    present = [name for name in columns if name in schema.names]
    for name in present:
        kind = schema.field(name).type
        if not _is_text(kind) and not pa.types.is_primitive(kind) and not pa.types.is_null(kind):
            raise UnreadablePromptsError(
                f"{where}: column {name!r} is of type {str(kind)[:80]}, expected text"
            )
    # With a buffer, pages are read one after the other and not all of a row group at once.
    options = {"metadata": first.metadata, "buffer_size": PIECE_BYTES, "pre_buffer": False}
    file = pq.ParquetFile(source, **options)
    # A text that comes a million times is stored once, in the dictionary of its row group. Read as
    # a dictionary, it is also held in memory once, so that its length is known before it is
    # repeated; but then the texts that are no part of it are held until the row group ends.
    dictionaries = pq.ParquetFile(source, read_dictionary=present, **options)
    number = 0
    for group in range(first.metadata.num_row_groups):
        num_bytes = first.metadata.row_group(group).total_byte_size
        if num_bytes > MAX_GROUP_BYTES:
            raise UnreadablePromptsError(
                f"{where}, from row {number + 1:,} on: a row group unpacks to {num_bytes:,} bytes, "
                f"at most {MAX_GROUP_BYTES:,} are read; write it again with smaller row groups"
            )
        for batch in dictionaries.iter_batches(1, [group], present, use_threads=False):
            for name in present:
                _require_short(batch.column(name), name, where, number + 1)
            break
        for batch in file.iter_batches(_PARQUET_ROWS, [group], present, use_threads=False):
            cells = []
            for name in present:
                _require_short(batch.column(name), name, where, number + 1)
                cells.append(batch.column(name).to_pylist())
            for values in zip(*cells, strict=True):
                number += 1
                yield number, pick(dict(zip(present, values, strict=True)), columns)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _require_short(column: pa.Array, name: str, where: str, first_row: int) -> None:
    """Refuse texts that are much too long before they become Python values.

    `prompts.reading` applies the exact limit later, in characters.
    """
    is_dictionary = pa.types.is_dictionary(column.type)
    texts = column.dictionary if is_dictionary else column
    if not _is_text(texts.type):
        return
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > _MAX_TEXT_BYTES:
        raise BadPromptError(
            f"{where}, from row {first_row:,} on: a {name} has {longest:,} bytes, at most "
            f"{MAX_CAPTION_CHARS:,} characters are taken; shorten it"
        )
