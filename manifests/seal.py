"""`dataset.json`: the seal, which names the files of a finished set and has one hash for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests.about import About, parse_about
from manifests.canonical import document_bytes, hash_large_json, is_document
from manifests.errors import CorruptError
from manifests.layout import INDEX
from manifests.recipe import read_versioned
from manifests.schema import ABOUT_VERSION, FORMAT, FORMAT_VERSION, INDEX_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """What the seal says of one committed shard."""

    shard: int
    tar_sha256: str
    tar_bytes: int
    manifest_sha256: str
    num_views: int
    num_ok: int

    def to_json(self) -> dict[str, Any]:
        """As the seal stores it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """A set that will not change any more."""

    recipe_sha256: str
    shards: Sequence[ShardSummary]
    """All committed shards, ascending."""
    missing: Sequence[int]
    """Shards without a manifest, ascending; empty unless sealed with `--seal-incomplete`."""
    files: Mapping[str, str]
    """SHA-256 of recipe, plan, index, statistics and notes, by path; not of files that are derived
    from the seal."""
    about: About | None = None
    """What its subjects and views are; None in a set that was sealed before this was stated."""

    @property
    def root_sha256(self) -> str:
        """One hash for all pixels and rows. Equal sets have equal ones, whoever rendered them.

        It covers the bytes of the manifests, so it is equal only if one version of pyarrow wrote
        them.
        """
        table = (
            [summary.shard, summary.tar_sha256, summary.manifest_sha256] for summary in self.shards
        )
        return hash_large_json([self.recipe_sha256, table, self.missing])

    @property
    def index(self) -> list[str]:
        """The files of the index, in order; none in a set that was sealed before there was one."""
        return sorted(path for path in self.files if path.startswith(f"{INDEX}/"))

    @property
    def counts(self) -> dict[str, int]:
        """Totals over all committed shards."""
        num_views = sum(summary.num_views for summary in self.shards)
        num_ok = sum(summary.num_ok for summary in self.shards)
        return {
            "num_shards": len(self.shards),
            "num_views": num_views,
            "num_ok": num_ok,
            "num_failed": num_views - num_ok,
            "tar_bytes": sum(summary.tar_bytes for summary in self.shards),
        }

    def to_bytes(self) -> bytes:
        """The document as it is stored."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "format_version": self._version(),
            "recipe_sha256": self.recipe_sha256,
            "root_sha256": self.root_sha256,
            "counts": self.counts,
            **({} if self.about is None else {"about": self.about.to_json()}),
            "missing": list(self.missing),
            "shards": list(self.shards),
            "files": dict(self.files),
        }
        return document_bytes(document | {"seal_sha256": hash_large_json(document)})

    def _version(self) -> str:
        if self.about is not None:
            return ABOUT_VERSION
        return INDEX_VERSION if self.index else FORMAT_VERSION


def parse_seal(data: bytes, *, where: str) -> Seal:
    """Read a seal and check it by its own hashes, to the byte.

    Raises:
        CorruptError: Any bit was changed, or a key is missing.
        ForeignSetError: The document is not a seal.
        VersionError: The seal has another major version.
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
            about=parse_about(document["about"]) if "about" in document else None,
        )
        root = document["root_sha256"]
        counts = document["counts"]
        _require_types(seal)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        raise CorruptError(f"{where}: not a whole seal ({exc}); restore it from a copy") from exc
    actual = (hash_large_json(document), seal.root_sha256, seal.counts)
    # A hash covers the values and not the white space between them, so the bytes are compared, too.
    is_canonical = is_document(data, document | {"seal_sha256": stated})
    if (stated, root, counts) != actual or not is_canonical:
        raise CorruptError(f"{where}: is not what its own hashes say; restore it from a copy")
    return seal


def _require_types(seal: Seal) -> None:
    """Raise ValueError if a count is no number of 63 bits, or a hash or path is no text.

    The hashes of a seal fit whatever its writer put into it, so types need a check of their own.
    """
    counts = [seal.missing, *([getattr(s, name) for name in _COUNTS] for s in seal.shards)]
    texts = [seal.recipe_sha256, *seal.files, *seal.files.values()]
    texts += [text for s in seal.shards for text in (s.tar_sha256, s.manifest_sha256)]
    for value in (value for row in counts for value in row):
        if type(value) is not int or not 0 <= value < 2**63:
            raise ValueError(f"{value!r:.40} is no count")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a hash or a path is no text")


_COUNTS = ("shard", "tar_bytes", "num_views", "num_ok")
