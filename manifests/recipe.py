"""`recipe.json`: all that decides the pixels and rows of a set, written when the set is begun."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from manifests.canonical import document_bytes, hash_json, hash_large_json
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
from manifests.origin import Origin, parse_origin
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
    ORIGIN_VERSION,
    SIZES_VERSION,
    TAKEN_NAMES,
)

_MALFORMED = (LookupError, TypeError, AttributeError, ArithmeticError, ValueError, RecursionError)
"""What is raised while a document is read that is valid JSON and not what we wrote."""

SIZES = ("render_width_px", "render_height_px", "width_px", "height_px")
"""Columns with the size of a view, as rendered and as stored."""

_BOUNDS = {
    "dataset_seed": (0, 2**63 - 1),
    "views_per_subject": (1, MAX_VIEWS_PER_SUBJECT),
    "num_subjects": (1, MAX_SUBJECTS),
    "subjects_per_shard": (1, MAX_SUBJECTS),
    **dict.fromkeys(SIZES, (1, MAX_SIZE_PX)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The part of a recipe that decides pixels and rows: sets with one identity have equal bytes.

    Raises:
        ContractError: A number beyond the bounds of the format, a value that does not fit its
            declared column, or variations whose number does not divide the views of a subject.
    """

    dataset_seed: int
    views_per_subject: int
    variations: Sequence[Mapping[str, Value]]
    """Values of the columns of scope `variation`. View v is made with variations[v mod len]; the
    length divides views_per_subject. Example: [{"guidance_scale": 2.0}, {"guidance_scale": 4.0}];
    [{}] for a renderer that varies nothing but the seed."""
    paired: bool = False
    """Whether the variations of one draw share its seed, as a sweep does; see `plan`."""
    num_subjects: int
    subjects_per_shard: int
    subjects_sha256: str
    """Hash of the merged subjects in order; see `plan.hash_subjects`."""
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
    sizes: Sequence[Mapping[str, int]] = field(default_factory=list)
    """The four sizes above for each variation, where they are not the same for all; the ones above
    are then those of the first."""
    format: str
    encoding: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the image encoder that decide its bytes: filter, quality, chroma."""
    audits: Sequence[Mapping[str, Any]] = ()
    """Name and settings of each audit, in the order in which they judge a rendered view. Example:
    [{"name": "non-finite"}, {"name": "blank", "min_levels": 8}]."""

    def __post_init__(self) -> None:
        # An identity may come from a file, so types are checked too.
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            _require_bounded(name, value, low, high)
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
        self._require_sizes()
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

    def _require_sizes(self) -> None:
        if not self.sizes:
            return
        for size in self.sizes:
            if not isinstance(size, Mapping) or {*size} != {*SIZES}:
                raise ContractError(f"size {size!r:.100}, expected {', '.join(SIZES)}")
            for name, value in size.items():
                _require_bounded(name, value, *_BOUNDS[name])
        first = {name: getattr(self, name) for name in SIZES}
        if len(self.sizes) != len(self.variations) or self.sizes[0] != first:
            raise ContractError(
                f"{len(self.sizes)} sizes for {len(self.variations)} variations, expected one for "
                "each, and the first as in the identity"
            )
        if all(size == first for size in self.sizes):
            raise ContractError("sizes are the same for all variations, expected none then")

    def size_of(self, view_index: int) -> Mapping[str, int]:
        """Width and height of a view, as rendered and as stored, by column."""
        if self.sizes:
            return self.sizes[view_index % len(self.sizes)]
        return {name: getattr(self, name) for name in SIZES}

    @property
    def num_shards(self) -> int:
        return -(-self.num_subjects // self.subjects_per_shard)  # rounded up

    @property
    def num_views(self) -> int:
        """Views that the plan asks for."""
        return self.num_subjects * self.views_per_subject

    @property
    def layout(self) -> Layout:
        return Layout(self.num_shards)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Names of the audits: the reasons for which a rendered view may have failed."""
        return tuple(str(audit["name"]) for audit in self.audits)

    def subjects_in(self, shard: int) -> range:
        """Group indices of the subjects of a shard."""
        start = shard * self.subjects_per_shard
        return range(start, min(start + self.subjects_per_shard, self.num_subjects))

    def to_json(self) -> dict[str, Any]:
        """The identity as the recipe stores it."""
        document = {attribute.name: getattr(self, attribute.name) for attribute in fields(self)}
        sizes = [dict(size) for size in document.pop("sizes")]
        # As plain dicts and lists, which the canonical JSON of the hash needs. What version 2.0
        # did not have is left out where it is not used, so that such a set is one of 2.0.
        return document | {
            **({"sizes": sizes} if sizes else {}),
            "variations": [dict(variation) for variation in self.variations],
            "columns": [column.to_json() for column in self.columns],
            "constants": dict(self.constants),
            "renderer_identity": dict(self.renderer_identity),
            "encoding": dict(self.encoding),
            "audits": [dict(audit) for audit in self.audits],
        }


def _require_bounded(name: str, value: Any, low: int, high: int) -> None:
    # Not with isinstance, for which True would be an integer.
    if type(value) is not int or not low <= value <= high:
        raise ContractError(f"{name} is {value!r:.40}, expected {low} to {high:,}")


def _identity(document: Mapping[str, Any]) -> Identity:
    document = {"sizes": [], **document}
    known = {attribute.name: document[attribute.name] for attribute in fields(Identity)}
    for name in ("variations", "audits", "sizes"):
        # A text or an object can be iterated, too, and would be read as a list of its letters or
        # keys.
        if not isinstance(known[name], list):
            raise ContractError(f"{name} is {known[name]!r:.100}, expected a list")
    known["columns"] = parse_columns(known["columns"], TAKEN_NAMES)
    return Identity(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The whole document."""

    identity: Identity
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a worker is built from: the frozen tables `renderer` and `image`, and
    the resources that the renderer needs."""
    environment: Mapping[str, Any]
    """Library versions and what the user typed. A resume in another environment is not refused; the
    user is warned."""
    subject_files: Mapping[str, str]
    """SHA-256 of each file of the plan, by path."""
    origin: Origin | None = None
    """Which sets views were taken from; None where all of them were rendered for this set."""
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the identity that a newer minor version added: they are hashed and otherwise
    ignored."""

    @property
    def sha256(self) -> str:
        """Hash of the identity, which the tars and manifests of the set carry."""
        return hash_json({**self.identity.to_json(), **self.unknown})

    def to_bytes(self) -> bytes:
        """The document as it is stored."""
        version = SIZES_VERSION if self.identity.sizes else FORMAT_VERSION
        return document_bytes(
            {
                "format": FORMAT,
                "format_version": version if self.origin is None else ORIGIN_VERSION,
                "identity": {**self.identity.to_json(), **self.unknown},
                "identity_sha256": self.sha256,
                "settings": dict(self.settings),
                "environment": dict(self.environment),
                "subject_files": dict(self.subject_files),
                **({} if self.origin is None else {"origin": self.origin.to_json()}),
            }
        )


def parse_recipe(data: bytes, *, where: str) -> Recipe:
    """Read a recipe; keys of a newer minor version are ignored.

    Raises:
        ForeignSetError: The document is not a recipe.
        VersionError: The recipe has another major version.
        CorruptError: The identity does not have the hash that is stated beside it, a key is
            missing, or a value is beyond the bounds of the format.
    """
    document = read_versioned(data, where=where)
    known = {attribute.name for attribute in fields(Identity)}
    try:
        stated_sha256 = document["identity_sha256"]
        # Of the identity as it is in the file: what this version does not know is hashed as well.
        actual_sha256 = hash_json(document["identity"])
        recipe = Recipe(
            identity=_identity(document["identity"]),
            settings=dict(document["settings"]),
            environment=dict(document["environment"]),
            subject_files=dict(document["subject_files"]),
            origin=parse_origin(document["origin"]) if "origin" in document else None,
            unknown={k: v for k, v in document["identity"].items() if k not in known},
        )
    except (*_MALFORMED, ContractError) as exc:
        raise CorruptError(f"{where}: not a whole recipe ({exc}); restore it") from exc
    if actual_sha256 != stated_sha256:
        raise CorruptError(
            f"{where}: its identity is not the one that was hashed; it was changed after the set "
            "was begun; restore it"
        )
    return recipe


def read_versioned(data: bytes, *, where: str) -> dict[str, Any]:
    """Read a JSON document of this format and of the major version that this code knows.

    Raises:
        CorruptError: Not JSON.
        ForeignSetError: JSON of something else.
        VersionError: Another major version.
    """
    try:
        document = json.loads(data)
        # Python reads what is no JSON (NaN) and what no file can hold: 1e999, halves of characters.
        hash_large_json(document)
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
    # `isdecimal` alone is true for digits of other scripts, and Python refuses to convert thousands
    # of digits with an error that would be no message for a user.
    if not (major.isascii() and major.isdecimal() and len(major) < 10):
        raise CorruptError(
            f"{where}: format version {version!r:.40}, expected {FORMAT_VERSION}; restore it"
        )
    if int(major) != MAJOR:
        advice = "install a newer synth-rep" if int(major) > MAJOR else "make the set again"
        raise VersionError(
            f"{where}: written as format {version}, this version reads {MAJOR}.x; {advice}"
        )
