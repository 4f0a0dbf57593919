"""A caption with where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_CAPTION_CHARS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One row of the input; empty text means not given."""

    caption: str
    label: str = ""
    licence: str = ""
    source: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    """Cells of the further columns that were asked for, empty where the file has none."""
    where: str = ""
    """File and row, for messages."""
