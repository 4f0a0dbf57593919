import io
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.errors import CorruptError, VersionError
from manifests.manifest import Manifest, parse_manifest
from tests.sets import COLUMNS, begin, refused, views_of

WHERE = "s3://bucket/set/manifests/000003.parquet"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Four views, the last one failed."""
    rows = [view.row for view in views_of(begin(tmp_path), 0)]
    return Manifest(
        recipe_sha256="ab" * 32,
        shard=3,
        tar_sha256="cd" * 32,
        tar_bytes=10240,
        columns=COLUMNS,
        rows=[row.at(512, 9) if row.is_ok else row for row in rows],
    )


def rewritten(
    manifest: Manifest, metadata: dict[str, str | None], table: pa.Table | None = None
) -> bytes:
    """The file with other metadata (None removes a key) and other columns."""
    table = table or pq.read_table(io.BytesIO(manifest.to_bytes()))
    original = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    changed = {key: value for key, value in (original | metadata).items() if value is not None}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(changed), sink)
    return sink.getvalue()


def test_manifest_round_trip(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_bytes(), COLUMNS, where=WHERE) == manifest
    assert (len(manifest.rows), manifest.num_ok) == (4, 3)


def test_manifest_holds_no_clock(manifest: Manifest) -> None:
    assert manifest.to_bytes() == replace(manifest).to_bytes()


def test_metadata_names_the_tar_the_recipe_and_the_counts(manifest: Manifest) -> None:
    metadata = pq.read_schema(io.BytesIO(manifest.to_bytes())).metadata
    assert {key: value for key, value in metadata.items() if key.startswith(b"synth.")} == {
        b"synth.format": b"synth-shard-set",
        b"synth.format_version": b"2.0",
        b"synth.recipe_sha256": b"ab" * 32,
        b"synth.shard": b"3",
        b"synth.tar_sha256": b"cd" * 32,
        b"synth.tar_bytes": b"10240",
        b"synth.num_views": b"4",
        b"synth.num_ok": b"3",
    }


def test_newer_major_version_is_refused_even_if_its_columns_are_others(manifest: Manifest) -> None:
    table = pq.read_table(io.BytesIO(manifest.to_bytes()))
    for columns in (table, table.drop_columns(["seed"])):
        data = rewritten(manifest, {"synth.format_version": "3.1"}, columns)
        with refused(VersionError, WHERE, "format 3.1", "reads 2.x", "install a newer synth-rep"):
            parse_manifest(data, COLUMNS, where=WHERE)


def test_newer_minor_version_with_unknown_columns_is_read(manifest: Manifest) -> None:
    table = pq.read_table(io.BytesIO(manifest.to_bytes()))
    table = table.add_column(0, "aesthetic", [[0.1, 0.2, 0.3, 0.4]])
    data = rewritten(manifest, {"synth.format_version": "2.9", "synth.mood": "good"}, table)
    assert parse_manifest(data, COLUMNS, where=WHERE) == manifest


@pytest.mark.parametrize(
    ("metadata", "part"),
    [
        ({"synth.tar_sha256": None}, "'synth.tar_sha256'"),
        ({"synth.format_version": None}, "'synth.format_version'"),
        ({"synth.num_ok": "x"}, "'x'"),
        ({"synth.shard": "x"}, "'x'"),
        ({"synth.num_views": "5"}, "4 rows, 3 of them ok; its metadata says 5 and 3"),
        ({"synth.num_ok": "4"}, "4 rows, 3 of them ok; its metadata says 4 and 4"),
    ],
)
def test_metadata_that_does_not_fit_the_rows_is_refused(
    manifest: Manifest, metadata: dict[str, str | None], part: str
) -> None:
    with refused(CorruptError, WHERE, part, "run `synth verify`"):
        parse_manifest(rewritten(manifest, metadata), COLUMNS, where=WHERE)


def test_another_file_is_refused() -> None:
    with refused(CorruptError, WHERE, "not a readable Parquet file", "restore it"):
        parse_manifest(b"caption,label\n", COLUMNS, where=WHERE)


@pytest.mark.parametrize(
    ("offset", "length"), [(-5, 9), (512, 0), (512, -1), (2**62, 9), (9, 2**62)]
)
def test_an_image_that_does_not_lie_in_its_tar_is_refused(
    manifest: Manifest, offset: int, length: int
) -> None:
    rows = [manifest.rows[0].at(offset, length), *manifest.rows[1:]]
    data = replace(manifest, rows=rows).to_bytes()
    with refused(CorruptError, WHERE, "000000000_000", "do not lie in a tar of 10240"):
        parse_manifest(data, COLUMNS, where=WHERE)


def test_an_older_major_version_is_refused(manifest: Manifest) -> None:
    data = rewritten(manifest, {"synth.format_version": "1.0"})
    with refused(VersionError, WHERE, "format 1.0", "reads 2.x", "make the set again"):
        parse_manifest(data, COLUMNS, where=WHERE)
