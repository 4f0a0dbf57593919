"""Parquet files of a set: deterministic bytes, checksums on every page."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.errors import CorruptError
from manifests.foundation.messages import one_line

MAX_ROWS = 10_000_000
MAX_UNCOMPRESSED_BYTES = 8 << 30


def write_table(
    table: pa.Table, *, metadata: Mapping[str, str], row_groups: Sequence[int] | None = None
) -> bytes:
    """A Parquet file; the same table and pyarrow give the same bytes.

    Args:
        metadata: Key-value pairs kept beside the schema's field metadata.
        row_groups: Number of rows of each row group; one group if None.
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
        start = 0
        for count in row_groups or [table.num_rows]:
            writer.write_table(table.slice(start, count).cast(schema), row_group_size=max(count, 1))
            start += count
    return sink.getvalue()


def read_metadata(data: bytes, *, where: str) -> dict[str, str]:
    """Metadata of a Parquet file, whatever its columns are."""
    with _errors(where):
        return _text(pq.ParquetFile(io.BytesIO(data)).schema_arrow)


def read_table(
    data: bytes, schema: pa.Schema, *, where: str, row_group: int | None = None
) -> tuple[pa.Table, dict[str, str]]:
    """Table and metadata of a Parquet file, every page checked.

    Args:
        schema: Columns that must be there with their types; others are ignored.
        where: What to call the file in messages.
        row_group: Read this one only.

    Raises:
        CorruptError: Not Parquet, a checksum fails, a column is missing or of another type.
    """
    with _errors(where):
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        footer = file.metadata
        size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
        if footer.num_rows > MAX_ROWS or size > MAX_UNCOMPRESSED_BYTES:
            raise CorruptError(
                f"{where}: {footer.num_rows} rows of {size} bytes are too many; make several sets"
            )
        if row_group is not None and not 0 <= row_group < footer.num_row_groups:
            raise CorruptError(f"{where}: has no row group {row_group}; restore it")
        found = file.schema_arrow
        for field in schema:
            if field.name not in found.names or found.field(field.name).type != field.type:
                raise CorruptError(
                    f"{where}: no column {field.name} of type {field.type}; restore it"
                )
        table = (
            file.read(columns=schema.names, use_threads=False)
            if row_group is None
            else file.read_row_group(row_group, columns=schema.names, use_threads=False)
        )
        table.validate(full=True)
        metadata = _text(found)
    if any(column.null_count for column in table.columns):
        raise CorruptError(f"{where}: holds null values, expected none; restore it")
    return table, metadata


def _text(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


@contextmanager
def _errors(where: str) -> Iterator[None]:
    """Turn what pyarrow says of a broken file into one line."""
    try:
        yield
    except CorruptError:
        raise
    except (pa.ArrowException, OSError, ValueError, RuntimeError, MemoryError) as exc:
        raise CorruptError(
            f"{where}: not a readable Parquet file ({one_line(exc)}); restore it"
        ) from exc
