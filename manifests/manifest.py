"""The Parquet table of one shard. The shard is committed when this file exists."""

from collections.abc import Sequence
from dataclasses import dataclass

from manifests.columns import DeclaredColumn
from manifests.errors import CorruptError
from manifests.recipe import require_version
from manifests.rows import ViewRow, table_to_views, views_to_table
from manifests.schema import FORMAT, FORMAT_VERSION, manifest_columns, schema_of
from manifests.tables import read_metadata, read_table, write_table

_PREFIX = "synth."


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A shard as its manifest describes it."""

    recipe_sha256: str
    shard: int
    tar_sha256: str
    tar_bytes: int
    columns: Sequence[DeclaredColumn]
    """What the renderer declares: the columns after the core ones."""
    rows: Sequence[ViewRow]
    """All requested views in the order of keys, failed ones included."""

    @property
    def num_ok(self) -> int:
        """Number of views whose images are in the tar."""
        return sum(row.is_ok for row in self.rows)

    def to_bytes(self) -> bytes:
        """The Parquet file, without clock and host, so that a retry writes the same bytes."""
        metadata = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "recipe_sha256": self.recipe_sha256,
            "shard": str(self.shard),
            "tar_sha256": self.tar_sha256,
            "tar_bytes": str(self.tar_bytes),
            "num_views": str(len(self.rows)),
            "num_ok": str(self.num_ok),
        }
        prefixed = {f"{_PREFIX}{name}": value for name, value in metadata.items()}
        return write_table(views_to_table(self.rows, self.columns), metadata=prefixed)


def parse_manifest(data: bytes, columns: Sequence[DeclaredColumn], *, where: str) -> Manifest:
    """Read a manifest, every page checked.

    Args:
        columns: What the renderer of the set declares.

    Raises:
        VersionError: The manifest has another major version.
        CorruptError: It cannot be read, its counts disagree, or an image lies outside of the tar.
    """
    # The version first: another major version may have other columns, and the message about a
    # missing column would hide that.
    metadata = read_metadata(data, where=where)
    try:
        require_version(metadata[f"{_PREFIX}format_version"], where=where)
        table, _ = read_table(data, schema_of(manifest_columns(columns)), where=where)
        manifest = Manifest(
            recipe_sha256=metadata[f"{_PREFIX}recipe_sha256"],
            shard=int(metadata[f"{_PREFIX}shard"]),
            tar_sha256=metadata[f"{_PREFIX}tar_sha256"],
            tar_bytes=int(metadata[f"{_PREFIX}tar_bytes"]),
            columns=columns,
            rows=table_to_views(table, columns),
        )
        counts = int(metadata[f"{_PREFIX}num_views"]), int(metadata[f"{_PREFIX}num_ok"])
    except (KeyError, ValueError) as exc:
        raise CorruptError(
            f"{where}: metadata {exc} is missing or no number; run `synth verify`"
        ) from exc
    if counts != (len(manifest.rows), manifest.num_ok):
        raise CorruptError(
            f"{where}: {len(manifest.rows)} rows, {manifest.num_ok} of them ok; "
            f"its metadata says {counts[0]} and {counts[1]}; run `synth verify`"
        )
    for row in manifest.rows:
        end = row.offset + row.length
        if row.is_ok and not (0 <= row.offset < end <= manifest.tar_bytes):
            raise CorruptError(
                f"{where}, {row.key}: bytes {row.offset} to {end} do not lie in a tar of "
                f"{manifest.tar_bytes}; run `synth verify`"
            )
    return manifest
