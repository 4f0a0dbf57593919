"""`dataset.json`: the seal, written last. It names every file and binds them in one hash."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from manifests.canonical import document_bytes, hash_json
from manifests.errors import CorruptError
from manifests.recipe import read_versioned
from manifests.schema import FORMAT, FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """One line of the shard table."""

    shard: int
    tar_sha256: str
    tar_bytes: int
    manifest_sha256: str
    num_views: int
    num_ok: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """A set that will not change any more."""

    recipe_sha256: str
    shards: Sequence[ShardSummary]
    missing: Sequence[int]
    """Shards that were given up; empty unless sealed with `--seal-incomplete`."""
    files: Mapping[str, str]
    """SHA-256 of every other file that is not derived from the seal: recipe, plan, stats, notes."""

    @property
    def root_sha256(self) -> str:
        """One hash for all pixels and rows: equal for equal sets, whoever rendered them when.

        Manifests are hashed as files, so one version of pyarrow must have written them.
        """
        table = [[each.shard, each.tar_sha256, each.manifest_sha256] for each in self.shards]
        return hash_json([self.recipe_sha256, table, list(self.missing)])

    @property
    def counts(self) -> dict[str, int]:
        """Totals of the shard table."""
        num_views = sum(each.num_views for each in self.shards)
        num_ok = sum(each.num_ok for each in self.shards)
        return {
            "num_shards": len(self.shards),
            "num_views": num_views,
            "num_ok": num_ok,
            "num_failed": num_views - num_ok,
            "tar_bytes": sum(each.tar_bytes for each in self.shards),
        }

    def to_bytes(self) -> bytes:
        document: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "recipe_sha256": self.recipe_sha256,
            "root_sha256": self.root_sha256,
            "counts": self.counts,
            "missing": list(self.missing),
            "shards": [asdict(each) for each in self.shards],
            "files": dict(self.files),
        }
        return document_bytes(document | {"seal_sha256": hash_json(document)})


def parse_seal(data: bytes, *, where: str) -> Seal:
    """Read a seal and check it against itself, to the byte.

    Raises:
        CorruptError: Changed in any bit, or incomplete.
        VersionError: Of a newer major version.
    """
    document = read_versioned(data, where=where)
    stated = document.pop("seal_sha256", None)
    try:
        seal = Seal(
            recipe_sha256=document["recipe_sha256"],
            shards=[
                ShardSummary(**{name: line[name] for name in ShardSummary.__slots__})
                for line in document["shards"]
            ],
            missing=list(document["missing"]),
            files=dict(document["files"]),
        )
        root = document["root_sha256"]
        counts = document["counts"]
        canonical = document_bytes(json.loads(data))
        _require_types(seal)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        raise CorruptError(f"{where}: not a whole seal ({exc}); restore it from a copy") from exc
    if (stated, root, counts, canonical) != (
        hash_json(document),
        seal.root_sha256,
        seal.counts,
        data,
    ):
        raise CorruptError(f"{where}: is not what its own hashes say; restore it from a copy")
    return seal


def _require_types(seal: Seal) -> None:
    """Raises ValueError for a value that is not what every reader of a seal takes it for."""
    numbers = [seal.missing, *([getattr(s, n) for n in _NUMBERS] for s in seal.shards)]
    texts = [seal.recipe_sha256, *seal.files, *seal.files.values()]
    texts += [text for s in seal.shards for text in (s.tar_sha256, s.manifest_sha256)]
    for value in (value for row in numbers for value in row):
        if type(value) is not int or not 0 <= value < 2**63:
            raise ValueError(f"{value!r:.40} is no count")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a hash or a path is no text")


_NUMBERS = ("shard", "tar_bytes", "num_views", "num_ok")
