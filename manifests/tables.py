"""Parquet files of a set: written with deterministic bytes, and a checksum on every page."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.errors import CorruptError
from manifests.foundation.messages import one_line

MAX_ROWS = 10_000_000
MAX_UNCOMPRESSED_BYTES = 8 << 30
"""Bounds of what is read at once: a small compressed file could otherwise fill the memory."""
PART_BYTES = 16 << 20
"""Unpacked bytes of the row groups that are read together where a whole file is read."""

ReadRange = Callable[[int, int], bytes]


def write_table(table: pa.Table, *, metadata: Mapping[str, str]) -> bytes:
    """The bytes of a Parquet file with one row group. See `write_tables`."""
    sink = io.BytesIO()
    write_tables(sink, [table], metadata=metadata)
    return sink.getvalue()


def write_tables(
    sink: BinaryIO, tables: Iterable[pa.Table], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a Parquet file; one version of pyarrow writes the same bytes for equal tables.

    Args:
        tables: A row group each; they have one schema, and there is at least one.
        metadata: Key-value pairs of the file. They replace those of the table's schema; meaning and
            unit of each column stay.
    """
    rest = iter(tables)
    first = next(rest)
    schema = first.schema.with_metadata(dict(metadata or {}))
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        version="2.6",
        data_page_version="1.0",
        write_page_checksum=True,
        store_schema=True,
    ) as writer:
        for table in chain([first], rest):
            # pyarrow refuses a row group size of 0, also for a table without rows.
            size = max(table.num_rows, 1)
            writer.write_table(table.combine_chunks().cast(schema), row_group_size=size)


def read_metadata(data: bytes, *, where: str) -> dict[str, str]:
    """Key-value metadata of a Parquet file with any columns; its pages are not read.

    Raises:
        CorruptError: Not Parquet.
    """
    with _errors(where):
        return _text(pq.ParquetFile(io.BytesIO(data)).schema_arrow)


class TableFile:
    """A Parquet file of which parts are read: its footer once, and row groups when they are needed.

    Several threads may read from it.

    Raises:
        CorruptError: Not Parquet, or a column is missing or of another type.
    """

    metadata: dict[str, str]
    """Its key-value pairs."""

    def __init__(self, read_range: ReadRange, size: int, schema: pa.Schema, *, where: str) -> None:
        """
        Args:
            read_range: Gives the bytes of the file from an offset: so many, or what is left.
            size: Bytes of the file.
            schema: Columns that must be there with their types; others are ignored.
            where: What to call the file in messages.
        """
        self._read_range, self._size = read_range, size
        self._columns, self._where = schema.names, where
        with _errors(where):
            file = pq.ParquetFile(_Ranges(read_range, size))
            self._footer = file.metadata
            actual = file.schema_arrow
            for field in schema:
                if field.name not in actual.names or actual.field(field.name).type != field.type:
                    raise CorruptError(
                        f"{where}: no column {field.name} of type {field.type}; restore it"
                    )
            self.metadata = _text(actual)

    @classmethod
    def of_bytes(cls, data: bytes, schema: pa.Schema, *, where: str) -> "TableFile":
        """A file that is in memory."""
        return cls(
            lambda start, length: data[start : start + length], len(data), schema, where=where
        )

    def parts(self) -> Iterator[pa.Table]:
        """The whole table in order: row groups of together at most PART_BYTES, or a larger one."""
        start = size = 0
        for number in range(self._footer.num_row_groups):
            size += self._footer.row_group(number).total_byte_size
            if size > PART_BYTES and number > start:
                yield self.read(range(start, number))
                start, size = number, self._footer.row_group(number).total_byte_size
        yield self.read(range(start, self._footer.num_row_groups))

    def read(self, row_groups: range | None = None) -> pa.Table:
        """Some row groups that follow each other, or all of them, by one reading of the file.

        Raises:
            CorruptError: There is no such row group, a checksum fails, a column has nulls, or the
                rows exceed the bounds of this module.
        """
        where, footer = self._where, self._footer
        groups = range(footer.num_row_groups) if row_groups is None else row_groups
        if groups and not 0 <= groups[0] <= groups[-1] < footer.num_row_groups:
            raise CorruptError(f"{where}: has no row group {groups[-1]}; restore it")
        with _errors(where):
            # The bounds are checked by the footer, before any page is decompressed.
            num_rows = sum(footer.row_group(group).num_rows for group in groups)
            size = sum(footer.row_group(group).total_byte_size for group in groups)
            if num_rows > MAX_ROWS or size > MAX_UNCOMPRESSED_BYTES:
                raise CorruptError(
                    f"{where}: {num_rows} rows of {size} bytes are too many; make several sets"
                )
            # A reader for each call, and with the parsed footer: that of 1,000 row groups takes
            # twenty times as long to parse as one of them to read. It reads its columns at once.
            file = pq.ParquetFile(
                _Ranges(self._read_range, self._size),
                metadata=footer,
                pre_buffer=True,
                page_checksum_verification=True,
            )
            table = file.read_row_groups([*groups], columns=self._columns, use_threads=False)
            # The page checksums do not say whether the content is valid: text may not be UTF-8.
            table.validate(full=True)
        # Checked here, because the file says itself whether its columns may hold nulls.
        if any(column.null_count for column in table.columns):
            raise CorruptError(f"{where}: holds null values, expected none; restore it")
        return table


class _Ranges(io.RawIOBase):
    """A file that is read at any place by a function."""

    def __init__(self, read_range: ReadRange, size: int) -> None:
        self._read_range, self._size = read_range, size
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._offset = offset + {io.SEEK_CUR: self._offset, io.SEEK_END: self._size}.get(whence, 0)
        return self._offset

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._size - self._offset)
        data = self._read_range(self._offset, left if size < 0 else min(size, left))
        self._offset += len(data)
        return data


def read_table(data: bytes, schema: pa.Schema, *, where: str) -> tuple[pa.Table, dict[str, str]]:
    """Table and metadata of a Parquet file, every page checked.

    Arguments and errors are those of `TableFile` and its `read`.
    """
    file = TableFile.of_bytes(data, schema, where=where)
    return file.read(), file.metadata


def _text(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


@contextmanager
def _errors(where: str) -> Iterator[None]:
    """Turn whatever pyarrow raises for a broken file into a CorruptError of one line."""
    try:
        yield
    except (CorruptError, FileNotFoundError):
        raise
    except (pa.ArrowException, OSError, ValueError, RuntimeError, MemoryError) as exc:
        raise CorruptError(
            f"{where}: not a readable Parquet file ({one_line(exc)}); restore it"
        ) from exc
