"""What the readers of captions share: bounds of a file, and the columns of a row."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from manifests.foundation.plugins import did_you_mean
from prompts.errors import UnreadablePromptsError

OPTIONAL_COLUMNS = ("label", "licence", "source")

MAX_FILE_BYTES = 2 << 30
"""Largest file, as it is stored and, for Parquet, unpacked: 200 bytes for each of 10^7 captions."""
MAX_TEXT_CHARS = 2 << 30
"""Characters of all the captions, labels and other texts of one file, repeated ones included."""
MAX_PROMPTS = 50_000_000
"""Rows of one file."""
MAX_ROW_CHARS = 1 << 20
"""Characters of one row, with the columns that are not read."""

_SHOWN = 50
"""Columns that a message lists, and characters of the name of each."""

Row = Mapping[str, Any]
Reader = Callable[[bytes, str, Sequence[str]], Iterator[tuple[int, Row]]]
"""Gives number and cells of each row from a file's bytes, its name for messages, and the columns
that are read, the caption's first."""


def require_columns(columns: Sequence[str], names: Iterable[str], where: str) -> None:
    """Refuse a file without its caption column, or with two columns of one name.

    Args:
        columns: Those that are read, the caption's first.
        names: Those that the file has.
    """
    caption_column, *_ = columns
    counts = Counter(iter(names))
    for name in columns:
        if counts[name] > 1:
            raise UnreadablePromptsError(f"{where}: two columns are named {name!r}; rename one")
    if caption_column not in counts:
        known = [name[:_SHOWN] for name in counts][:_SHOWN]
        raise UnreadablePromptsError(
            f"{where}: no column {caption_column!r} among {', '.join(known)}; "
            f"give --caption-column{did_you_mean(caption_column, known)}"
        )


def pick(row: Row, columns: Sequence[str]) -> Row:
    caption_column, *others = columns
    return {name: row[name] for name in others if name in row and name != caption_column} | {
        "caption": row[caption_column]
    }
