"""The Parquet table of one shard. That it exists commits the shard."""

from collections.abc import Sequence
from dataclasses import dataclass

from manifests.errors import CorruptError, VersionError
from manifests.rows import ViewRow, table_to_views, views_to_table
from manifests.schema import FORMAT, FORMAT_VERSION, MAJOR, MANIFEST_SCHEMA
from manifests.tables import read_metadata, read_table, write_table

_PREFIX = "synth."


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A shard as its manifest tells it."""

    recipe_sha256: str
    shard: int
    tar_sha256: str
    tar_bytes: int
    rows: Sequence[ViewRow]

    @property
    def num_ok(self) -> int:
        """Views that are in the tar."""
        return sum(row.is_ok for row in self.rows)

    def to_bytes(self) -> bytes:
        """The Parquet file: no clock, no host, so that a retry writes the same."""
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
        return write_table(views_to_table(self.rows), metadata=prefixed)


def parse_manifest(data: bytes, *, where: str) -> Manifest:
    """Read a manifest, every page checked.

    Raises:
        VersionError: Of a newer major version.
        CorruptError: Not readable, or its counts disagree.
    """
    metadata = read_metadata(data, where=where)
    try:
        version = metadata[f"{_PREFIX}format_version"]
        if int(version.partition(".")[0]) > MAJOR:
            raise VersionError(
                f"{where}: written as format {version}, this version reads up to {MAJOR}.x; "
                "install a newer synth-rep"
            )
        table, _ = read_table(data, MANIFEST_SCHEMA, where=where)
        manifest = Manifest(
            recipe_sha256=metadata[f"{_PREFIX}recipe_sha256"],
            shard=int(metadata[f"{_PREFIX}shard"]),
            tar_sha256=metadata[f"{_PREFIX}tar_sha256"],
            tar_bytes=int(metadata[f"{_PREFIX}tar_bytes"]),
            rows=table_to_views(table),
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
    return manifest
