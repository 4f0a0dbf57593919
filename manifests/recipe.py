"""`recipe.json`: everything that decides the pixels and rows of a set, frozen when it is begun."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from manifests.canonical import document_bytes, hash_json
from manifests.columns import (
    DeclaredColumn,
    Value,
    of_scope,
    parse_columns,
    require_columns,
    require_values,
)
from manifests.errors import ContractError, CorruptError, ForeignSetError, VersionError
from manifests.layout import Layout
from manifests.schema import (
    FORMAT,
    FORMAT_VERSION,
    FORMATS,
    MAJOR,
    MAX_SHARDS,
    MAX_SIZE_PX,
    MAX_SUBJECTS,
    MAX_VIEWS_PER_SHARD,
    MAX_VIEWS_PER_SUBJECT,
    TAKEN_NAMES,
)

_MALFORMED = (LookupError, TypeError, AttributeError, ArithmeticError, ValueError, RecursionError)
"""What reading a document raises that is JSON and not ours."""

_BOUNDS = {
    "dataset_seed": (0, 2**63 - 1),
    "views_per_subject": (1, MAX_VIEWS_PER_SUBJECT),
    "num_subjects": (1, MAX_SUBJECTS),
    "subjects_per_shard": (1, MAX_SUBJECTS),
    "render_width_px": (1, MAX_SIZE_PX),
    "render_height_px": (1, MAX_SIZE_PX),
    "width_px": (1, MAX_SIZE_PX),
    "height_px": (1, MAX_SIZE_PX),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What decides pixels and rows. Two sets of one identity hold the same bytes.

    Raises:
        ContractError: A number beyond the bounds of the format, a value that does not fit its
            declared column, or variations whose number does not divide the views of a subject.
    """

    dataset_seed: int
    views_per_subject: int
    variations: Sequence[Mapping[str, Value]]
    """View v is made with variations[v mod len]; the length divides views_per_subject."""
    paired: bool = False
    """Whether the variations of one draw share its seed, as a sweep does; see `plan`."""
    num_subjects: int
    subjects_per_shard: int
    subjects_sha256: str
    """Hash of the merged subjects in order, independent of the file format."""
    renderer: str
    renderer_identity: Mapping[str, Any]
    """What the renderer says decides its pixels: hashes of its files, dtype, ..."""
    model: str
    revision: str
    columns: Sequence[DeclaredColumn] = ()
    """What the renderer declares; see `columns`."""
    constants: Mapping[str, Value] = field(default_factory=dict)
    """Values of the declared columns of scope `set`."""
    render_width_px: int
    render_height_px: int
    width_px: int
    height_px: int
    format: str
    encoding: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the image encoder that matter: filter, quality, chroma."""
    audits: Sequence[Mapping[str, Any]] = ()
    """What every rendered view is checked for, in this order: name and settings of each audit."""

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ContractError(f"{name} is {value!r:.40}, expected {low} to {high:,}")
        for name in ("subjects_sha256", "renderer", "model", "revision"):
            if not isinstance(getattr(self, name), str):
                raise ContractError(f"{name} is {getattr(self, name)!r:.100}, expected a text")
        if type(self.paired) is not bool or self.format not in FORMATS:
            raise ContractError(
                f"paired is {self.paired!r:.20} and format {self.format!r:.20}, expected true or "
                f"false and one of {', '.join(FORMATS)}"
            )
        for name in ("renderer_identity", "encoding"):
            if not isinstance(getattr(self, name), Mapping):
                raise ContractError(f"{name} is {getattr(self, name)!r:.100}, expected an object")
        for audit in self.audits:
            if not isinstance(audit, Mapping) or not isinstance(audit.get("name"), str):
                raise ContractError(f"audit {audit!r:.100} has no name")
        require_columns(self.columns, TAKEN_NAMES)
        varying = of_scope(self.columns, "variation")
        for variation in self.variations:
            require_values(variation, varying, what="variation")
        require_values(self.constants, of_scope(self.columns, "set"), what="constants")
        if not self.variations or self.views_per_subject % len(self.variations):
            raise ContractError(
                f"{len(self.variations)} variations do not divide {self.views_per_subject} views "
                "of each subject; each takes an equal share of the views, so give a multiple"
            )
        if self.num_shards > MAX_SHARDS:
            raise ContractError(
                f"{self.num_shards:,} shards, a set has at most {MAX_SHARDS:,}; put more subjects "
                "into each"
            )
        if self.subjects_per_shard * self.views_per_subject > MAX_VIEWS_PER_SHARD:
            raise ContractError(
                f"{self.subjects_per_shard} subjects of {self.views_per_subject} views are more "
                f"than {MAX_VIEWS_PER_SHARD:,} views in a shard; put fewer subjects into each"
            )

    @property
    def num_shards(self) -> int:
        return -(-self.num_subjects // self.subjects_per_shard)

    @property
    def num_views(self) -> int:
        """Views that the plan asks for."""
        return self.num_subjects * self.views_per_subject

    @property
    def layout(self) -> Layout:
        return Layout(self.num_shards)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Names of the audits: why a view that was rendered may have failed."""
        return tuple(str(audit["name"]) for audit in self.audits)

    def subjects_in(self, shard: int) -> range:
        """Group indices of the subjects of a shard."""
        start = shard * self.subjects_per_shard
        return range(start, min(start + self.subjects_per_shard, self.num_subjects))

    def to_json(self) -> dict[str, Any]:
        """The identity as the recipe holds it."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        return document | {
            "variations": [dict(variation) for variation in self.variations],
            "columns": [column.to_json() for column in self.columns],
            "constants": dict(self.constants),
            "renderer_identity": dict(self.renderer_identity),
            "encoding": dict(self.encoding),
            "audits": [dict(audit) for audit in self.audits],
        }


def _identity(document: Mapping[str, Any]) -> Identity:
    known = {each.name: document[each.name] for each in fields(Identity)}
    for name in ("variations", "audits"):
        if not isinstance(known[name], list):
            raise ContractError(f"{name} is {known[name]!r:.100}, expected a list")
    known["columns"] = parse_columns(known["columns"], TAKEN_NAMES)
    return Identity(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The whole document."""

    identity: Identity
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a worker is built from: the frozen tables `renderer`, `image` and `audits`."""
    environment: Mapping[str, Any]
    """Library versions and what the user typed: recorded; a difference warns and is not refused."""
    subject_files: Mapping[str, str]
    """SHA-256 of each file of the plan, by path."""
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the identity that a newer minor version added: hashed, and ignored."""

    @property
    def sha256(self) -> str:
        """The hash that tars and manifests carry."""
        return hash_json({**self.identity.to_json(), **self.unknown})

    def to_bytes(self) -> bytes:
        """The document as it is stored."""
        return document_bytes(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "identity": {**self.identity.to_json(), **self.unknown},
                "identity_sha256": self.sha256,
                "settings": dict(self.settings),
                "environment": dict(self.environment),
                "subject_files": dict(self.subject_files),
            }
        )


def parse_recipe(data: bytes, *, where: str) -> Recipe:
    """Read a recipe; keys of a newer minor version are ignored.

    Raises:
        ForeignSetError: Something else than a recipe.
        VersionError: Of another major version.
        CorruptError: The identity is not what its hash says, or a key is missing.
    """
    document = read_versioned(data, where=where)
    known = {each.name for each in fields(Identity)}
    try:
        stated = document["identity_sha256"]
        found = hash_json(document["identity"])
        recipe = Recipe(
            identity=_identity(document["identity"]),
            settings=dict(document["settings"]),
            environment=dict(document["environment"]),
            subject_files=dict(document["subject_files"]),
            unknown={k: v for k, v in document["identity"].items() if k not in known},
        )
    except (*_MALFORMED, ContractError) as exc:
        raise CorruptError(f"{where}: not a whole recipe ({exc}); restore it") from exc
    if found != stated:
        raise CorruptError(
            f"{where}: its identity is not the one that was hashed; it was changed after the set "
            "was begun; restore it"
        )
    return recipe


def read_versioned(data: bytes, *, where: str) -> dict[str, Any]:
    """A JSON document of this format and of the major version that this code knows."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise CorruptError(f"{where}: not JSON ({exc}); restore it") from exc
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ForeignSetError(f"{where}: not a document of a shard set; choose another URL")
    require_version(document.get("format_version"), where=where)
    return document


def require_version(version: Any, *, where: str) -> None:
    """Refuse a format version of another major number.

    Raises:
        CorruptError: Not a version at all.
        VersionError: Older or newer than what this code reads.
    """
    major = str(version).partition(".")[0]
    if not (major.isascii() and major.isdecimal() and len(major) < 10):
        raise CorruptError(
            f"{where}: format version {version!r:.40}, expected {FORMAT_VERSION}; restore it"
        )
    if int(major) != MAJOR:
        advice = "install a newer synth-rep" if int(major) > MAJOR else "make the set again"
        raise VersionError(
            f"{where}: written as format {version}, this version reads {MAJOR}.x; {advice}"
        )
