"""A caption with where it comes from."""

from dataclasses import dataclass

MAX_CAPTION_CHARS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One row of the input; empty text means not given."""

    caption: str
    label: str = ""
    licence: str = ""
    source: str = ""
    negative_prompt: str = ""
    where: str = ""
    """File and row, for messages."""
