"""`index/`: where each group lies in its tar, for readers that take groups at random.

A manifest says it too, view by view; but a reader of 100,000 shards cannot read as many manifests
before it starts, nor hold them. The index of a group is one line (docs/adr/0021). All of it follows
from the manifests.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from tarfile import BLOCKSIZE

import pyarrow as pa

from manifests.columns import Column
from manifests.layout import SHARDS_PER_FILE
from manifests.manifest import Manifest
from manifests.rows import ViewRow
from manifests.schema import NO_OFFSET, schema_of
from manifests.tables import write_table
from manifests.tars import member_bytes

INDEX_COLUMNS = (
    Column("shard", "int64", "shard that holds the group"),
    Column("group_id", "int64", "63-bit hash of kind and text; equal ids are positives"),
    Column("num_ok", "int64", "views of the group that did not fail", "views"),
    Column("offset", "int64", "first byte of the group in the tar; -1 if there is none", "bytes"),
    Column("length", "int64", "size of the group in the tar: images, rows and texts", "bytes"),
    Column("check", "int64", "hash of the group's rows in the tar, see SPEC.md"),
    Column("kind", "string", "what the text is, such as caption"),
    Column("label", "string", "class label, empty for none"),
)
"""One row for each group of the committed shards, in the order of the set."""

INDEX_SCHEMA = schema_of(INDEX_COLUMNS)


def index_of(manifest: Manifest) -> pa.Table:
    """The groups of one shard, a row of `INDEX_COLUMNS` for each."""
    lines = [
        _line(manifest.shard, list(rows))
        for _, rows in groupby(manifest.rows, key=lambda row: row.group_id)
    ]
    return pa.Table.from_pylist(lines, schema=INDEX_SCHEMA)


def _line(shard: int, rows: Sequence[ViewRow]) -> dict[str, int | str]:
    good = [row for row in rows if row.is_ok]
    texts = [row.to_json().encode() for row in good]
    sizes = [row.length for row in good]
    sizes += [len(text) for text in texts] + [len(row.text.encode()) for row in good]
    return {
        "shard": shard,
        "group_id": rows[0].group_id,
        "num_ok": len(good),
        "offset": good[0].offset - BLOCKSIZE if good else NO_OFFSET,
        "length": sum(map(member_bytes, sizes)),
        "check": check_of(texts),
        "kind": rows[0].kind,
        "label": rows[0].label,
    }


def check_of(rows: Sequence[bytes]) -> int:
    """The first eight bytes of the SHA-256 of a group's rows, as they stand in the tar.

    Each row has the hash of its image, so whoever compares both has checked the whole group.

    Args:
        rows: Canonical JSON of the views that did not fail, in the order of keys.
    """
    return int.from_bytes(sha256(b"\n".join(rows)).digest()[:8], "big", signed=True)


def index_files(tables: Iterator[tuple[int, pa.Table]]) -> Iterator[tuple[int, bytes]]:
    """Number and content of the files of an index, from the shards in ascending order.

    Args:
        tables: Number and index of each committed shard.
    """
    for number, part in groupby(tables, key=lambda item: item[0] // SHARDS_PER_FILE):
        yield number, write_table(pa.concat_tables([table for _, table in part]), metadata={})
