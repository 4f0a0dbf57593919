"""Parquet files of a set: written with deterministic bytes, and a checksum on every page."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.errors import CorruptError
from manifests.foundation.messages import one_line

MAX_ROWS = 10_000_000
MAX_UNCOMPRESSED_BYTES = 8 << 30
"""Bounds of a file that is read: a small compressed file could otherwise fill the memory."""


def write_table(
    table: pa.Table, *, metadata: Mapping[str, str], row_group_size: int | None = None
) -> bytes:
    """The bytes of a Parquet file; one version of pyarrow writes the same bytes for equal tables.

    Args:
        metadata: Key-value pairs of the file. They replace those of the table's schema; meaning and
            unit of each column stay.
        row_group_size: Rows of each row group but the last, which may have fewer; one group if
            None.
    """
    schema = table.schema.with_metadata(dict(metadata))
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        version="2.6",
        data_page_version="1.0",
        write_page_checksum=True,
        store_schema=True,
    ) as writer:
        # pyarrow refuses a row group size of 0, also for a table without rows.
        size = row_group_size or max(table.num_rows, 1)
        writer.write_table(table.combine_chunks().cast(schema), row_group_size=size)
    return sink.getvalue()


def read_metadata(data: bytes, *, where: str) -> dict[str, str]:
    """Key-value metadata of a Parquet file with any columns; its pages are not read.

    Raises:
        CorruptError: Not Parquet.
    """
    with _errors(where):
        return _text(pq.ParquetFile(io.BytesIO(data)).schema_arrow)


class TableFile:
    """A Parquet file in memory: its footer is checked once, each page when it is read.

    Several threads may read from it.

    Raises:
        CorruptError: Not Parquet, a column is missing or of another type, or the file exceeds the
            bounds of this module.
    """

    metadata: dict[str, str]
    """Its key-value pairs."""

    def __init__(self, data: bytes, schema: pa.Schema, *, where: str) -> None:
        """
        Args:
            schema: Columns that must be there with their types; others are ignored.
            where: What to call the file in messages.
        """
        self._data, self._columns, self._where = data, schema.names, where
        with _errors(where):
            file = pq.ParquetFile(io.BytesIO(data))
            footer = self._footer = file.metadata
            # The bounds are checked by the footer, before any page is decompressed.
            size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
            if footer.num_rows > MAX_ROWS or size > MAX_UNCOMPRESSED_BYTES:
                raise CorruptError(
                    f"{where}: {footer.num_rows} rows of {size} bytes are too many; make several "
                    "sets"
                )
            actual = file.schema_arrow
            for field in schema:
                if field.name not in actual.names or actual.field(field.name).type != field.type:
                    raise CorruptError(
                        f"{where}: no column {field.name} of type {field.type}; restore it"
                    )
            self.metadata = _text(actual)

    def read(self, row_group: int | None = None) -> pa.Table:
        """The table, or one of its row groups.

        Raises:
            CorruptError: There is no such row group, a checksum fails, or a column has nulls.
        """
        where = self._where
        if row_group is not None and not 0 <= row_group < self._footer.num_row_groups:
            raise CorruptError(f"{where}: has no row group {row_group}; restore it")
        with _errors(where):
            # A reader for each thread, and with the parsed footer: that of 1,000 row groups takes
            # twenty times as long to parse as one of them to read.
            file = pq.ParquetFile(
                io.BytesIO(self._data), metadata=self._footer, page_checksum_verification=True
            )
            table = (
                file.read(columns=self._columns, use_threads=False)
                if row_group is None
                else file.read_row_group(row_group, columns=self._columns, use_threads=False)
            )
            # The page checksums do not say whether the content is valid: text may not be UTF-8.
            table.validate(full=True)
        # Checked here, because the file says itself whether its columns may hold nulls.
        if any(column.null_count for column in table.columns):
            raise CorruptError(f"{where}: holds null values, expected none; restore it")
        return table


def read_table(data: bytes, schema: pa.Schema, *, where: str) -> tuple[pa.Table, dict[str, str]]:
    """Table and metadata of a Parquet file, every page checked.

    Arguments and errors are those of `TableFile` and its `read`.
    """
    file = TableFile(data, schema, where=where)
    return file.read(), file.metadata


def _text(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


@contextmanager
def _errors(where: str) -> Iterator[None]:
    """Turn whatever pyarrow raises for a broken file into a CorruptError of one line."""
    try:
        yield
    except CorruptError:
        raise
    except (pa.ArrowException, OSError, ValueError, RuntimeError, MemoryError) as exc:
        raise CorruptError(
            f"{where}: not a readable Parquet file ({one_line(exc)}); restore it"
        ) from exc
