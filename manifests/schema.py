"""The columns of every set, whichever renderer made it: name, type, meaning and unit of each."""

from collections.abc import Iterable
from typing import Literal

import pyarrow as pa

from manifests.columns import Column, DeclaredColumn, of_scope

FORMAT = "synth-shard-set"
MAJOR = 2
FORMAT_VERSION = f"{MAJOR}.0"
"""Version that a document states: the lowest one that has all that it uses."""
SIZES_VERSION = f"{MAJOR}.1"
"""Of a recipe whose variations have sizes of their own."""

INDEX_VERSION = f"{MAJOR}.2"
"""Of a seal that names an index."""

ORIGIN_VERSION = f"{MAJOR}.3"
"""Of a recipe that says which sets views were taken from."""

ABOUT_VERSION = f"{MAJOR}.4"
"""Of a seal that says what its set is about."""

Status = Literal["ok", "failed"]
"""ok: the view is in the tar. failed: it is not, and `reason` says why."""

STATUSES: tuple[Status, ...] = ("ok", "failed")

RENDER_ERROR = "render-error"
"""`reason` of a view whose rendering raised for this very request, tried alone."""

NOT_DRAWN = "not-drawn"
"""`reason` of a view of which the renderer says that there is no picture. Every other reason is the
name of an audit in the recipe."""

NO_OFFSET = -1
"""`offset` of a view that has no image; its `length` is 0 and its `sha256` is empty."""

FORMATS = ("png", "jpg")
"""Image formats, which are also the suffixes of the tar's members."""

MAX_SUBJECTS = 10**9
MAX_VIEWS_PER_SUBJECT = 1000
MAX_VIEWS_PER_SHARD = 10**6
MAX_SHARDS = 10**6
MAX_SIZE_PX = 65_536
"""Bounds of the format: a recipe beyond them is refused when it is read. A key has nine digits for
the subject and three for the view."""

# Names, types and units never change within a major version. Meanings are written into every file,
# too, so another wording changes the bytes of manifests and with them the hashes in the seal.
_SUBJECT = (
    Column("kind", "string", "what the text is, such as caption"),
    Column("text", "string", "what the group depicts: NFC, white space collapsed, case kept"),
    Column("label", "string", "class label, empty for none"),
    Column("licence", "string", "licence of the subject, empty if not stated"),
    Column("source", "string", "where the subject comes from: file or URL, or as given"),
)
_GROUP_ID = Column("group_id", "int64", "63-bit hash of kind and text; equal ids are positives")

SUBJECT_COLUMNS = (
    Column("group_index", "int64", "place of the group in the plan, from 0"),
    _GROUP_ID,
    *_SUBJECT,
    Column("num_merged", "int64", "rows of the input with this very text", "rows"),
)

CORE_COLUMNS = (
    Column("key", "string", "name of the view: group index _ view index"),
    _GROUP_ID,
    Column("view_index", "int64", "place of the view in its group, from 0"),
    Column("status", "string", "ok or failed"),
    Column("reason", "string", "why a view failed: render-error or an audit's name; empty if ok"),
    *_SUBJECT,
    Column("renderer", "string", "name of the renderer"),
    Column("model", "string", "name of the generator"),
    Column("revision", "string", "revision of the generator; for a folder, a hash of its files"),
    Column("seed", "int64", "seed of what is random in the view, 0 to 2^32 - 1"),
    Column("render_width_px", "int64", "width as rendered", "px"),
    Column("render_height_px", "int64", "height as rendered", "px"),
    Column("width_px", "int64", "width as stored", "px"),
    Column("height_px", "int64", "height as stored", "px"),
    Column("format", "string", "image format and file suffix: png or jpg"),
    Column("sha256", "string", "SHA-256 of the image bytes in hexadecimal; empty if there is none"),
    Column("offset", "int64", "first byte of the image in the tar; -1 if there is none", "bytes"),
    Column("length", "int64", "size of the image in the tar; 0 if there is none", "bytes"),
)
"""The first columns of every manifest; those that the renderer declares follow them."""

TAKEN_NAMES = frozenset(column.name for column in (*SUBJECT_COLUMNS, *CORE_COLUMNS))
"""Names that a renderer cannot declare for its own columns."""

CORE_SCHEMA = pa.schema([column.field() for column in CORE_COLUMNS])


def manifest_columns(declared: Iterable[DeclaredColumn]) -> tuple[Column, ...]:
    """All columns of a manifest, in their order."""
    return (*CORE_COLUMNS, *declared)


def subject_columns(declared: Iterable[DeclaredColumn]) -> tuple[Column, ...]:
    """All columns of the plan, in their order."""
    return (*SUBJECT_COLUMNS, *of_scope(declared, "subject"))


def schema_of(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of some columns."""
    return pa.schema([column.field() for column in columns])
