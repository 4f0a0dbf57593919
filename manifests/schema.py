"""The columns of manifests and prompt files: name, type, meaning and unit, once."""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

FORMAT = "synth-shard-set"
MAJOR, MINOR = 1, 0
FORMAT_VERSION = f"{MAJOR}.{MINOR}"

Status = Literal["ok", "failed"]
"""ok: the view is in the tar. failed: it is not, and `reason` says why."""

Reason = Literal["", "non-finite", "blank", "render-error"]
"""Why a view failed.

"" : it did not.
"non-finite" : the renderer's pixels hold NaN or infinity.
"blank" : all pixels are (nearly) of one colour.
"render-error" : rendering raised for this very request, tried alone.
"""

STATUSES: tuple[Status, ...] = ("ok", "failed")
REASONS: tuple[Reason, ...] = ("", "non-finite", "blank", "render-error")

NO_HASH = bytes(32)
"""sha256 of a view that has no image."""
NO_OFFSET = -1
"""offset of a view that has no image; its length is 0."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Arrow type, what it means, and its unit ("" for none). Never null."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""

    def field(self) -> pa.Field:
        return pa.field(
            self.name,
            self.type,
            nullable=False,
            metadata={"meaning": self.meaning, "unit": self.unit},
        )


PROMPT_COLUMNS = (
    Column("group_index", pa.int64(), "place of the group in the plan, from 0"),
    Column("group_id", pa.int64(), "63-bit hash of kind and text; equal ids are mutual positives"),
    Column("prompt", pa.string(), "what to depict: NFC, white space collapsed, case kept"),
    Column("negative_prompt", pa.string(), "what not to depict, empty for nothing"),
    Column("label", pa.string(), "class label, empty for none"),
    Column("licence", pa.string(), "licence of the caption, empty if not stated"),
    Column("source", pa.string(), "where the caption comes from: file or URL, or as given"),
    Column("num_merged", pa.int64(), "rows of the input with this very text", "rows"),
)

MANIFEST_COLUMNS = (
    Column("key", pa.string(), "name of the view: group index _ view index"),
    Column("group_id", pa.int64(), "63-bit hash of kind and text; equal ids are mutual positives"),
    Column("view_index", pa.int64(), "place of the view in its group, from 0"),
    Column("status", pa.string(), "ok or failed"),
    Column("reason", pa.string(), "why a view failed, from a closed list; empty if ok"),
    Column("prompt", pa.string(), "the text that was rendered"),
    Column("negative_prompt", pa.string(), "text that guidance steers away from, or empty"),
    Column("label", pa.string(), "class label, empty for none"),
    Column("licence", pa.string(), "licence of the caption, empty if not stated"),
    Column("source", pa.string(), "where the caption comes from"),
    Column("renderer", pa.string(), "name of the renderer"),
    Column("model", pa.string(), "name of the generator"),
    Column("revision", pa.string(), "revision of the generator; for a folder, a hash of its files"),
    Column("scheduler", pa.string(), "class of the scheduler"),
    Column("steps", pa.int64(), "denoising steps", "steps"),
    Column("guidance_scale", pa.float64(), "classifier-free guidance w; at most 1 is none"),
    Column("seed", pa.int64(), "seed of the noise: torch.Generator().manual_seed(seed)"),
    Column("render_width_px", pa.int64(), "width as rendered", "px"),
    Column("render_height_px", pa.int64(), "height as rendered", "px"),
    Column("width_px", pa.int64(), "width as stored", "px"),
    Column("height_px", pa.int64(), "height as stored", "px"),
    Column("format", pa.string(), "image format and file suffix: png or jpg"),
    Column("num_tokens_cut", pa.int64(), "tokens of the prompt beyond the model's limit", "tokens"),
    Column("renderer_params", pa.string(), "what else the renderer was told, canonical JSON"),
    Column("sha256", pa.binary(32), "SHA-256 of the image bytes; zeros if there is no image"),
    Column(
        "offset", pa.int64(), "first byte of the image in the tar; -1 if there is none", "bytes"
    ),
    Column("length", pa.int64(), "size of the image in the tar; 0 if there is none", "bytes"),
)

PROMPT_SCHEMA = pa.schema([column.field() for column in PROMPT_COLUMNS])
MANIFEST_SCHEMA = pa.schema([column.field() for column in MANIFEST_COLUMNS])
