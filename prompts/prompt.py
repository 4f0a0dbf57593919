"""A caption with where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_CAPTION_CHARS = 2_000
"""Characters of a caption, and of each other cell that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One row of a file of captions; a cell that the file does not have is empty."""

    caption: str
    label: str = ""
    licence: str = ""
    source: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    """Cells of the further columns that the caller asked for, by name of the column."""
    where: str = ""
    """File and row, for messages."""
