"""What the readers of all formats share: the bounds of a file, and the columns of a row."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from manifests.foundation.plugins import did_you_mean
from manifests.schema import MAX_SUBJECTS
from prompts.errors import UnreadablePromptsError

OPTIONAL_COLUMNS = ("label", "licence", "source")
"""Columns that are read where a file has them."""

MAX_FILE_BYTES = 1 << 40
"""Bytes of one file: a thousand for each subject that a set can have, so that all files end."""
MAX_PROMPTS = 10_000_000
"""Rows of one file, or one for each of its bytes where it has more: a small Parquet file can repeat
a row as often as it likes."""
MAX_TEXT_CHARS = 2 << 30
"""Characters of all captions, labels and other cells of one file, or MAX_UNFOLDING for each of its
bytes where those are more. Repeated texts count each time: Parquet stores a text once."""
MAX_UNFOLDING = 100
MAX_ROW_CHARS = 1 << 20
"""Characters of one row of text, including the columns that are not read."""

_MAX_SHOWN = 50
"""Columns that a message lists at most, and characters of each of their names."""

Row = Mapping[str, Any]


def require_bounded(num_rows: int, num_chars: int, num_bytes: int, where: str) -> None:
    """Refuse a file that holds more than its size can account for, or more than a set can.

    Args:
        num_rows: Rows so far.
        num_chars: Characters of their cells.
        num_bytes: Of the file, as far as it is read.
    """
    if num_rows > min(MAX_SUBJECTS, max(MAX_PROMPTS, num_bytes)):
        raise UnreadablePromptsError(
            f"{where}: more than {num_rows - 1:,} captions; make several sets"
        )
    if num_chars > max(MAX_TEXT_CHARS, MAX_UNFOLDING * num_bytes):
        raise UnreadablePromptsError(
            f"{where}: more than {max(MAX_TEXT_CHARS, MAX_UNFOLDING * num_bytes):,} characters of "
            "text; make several sets"
        )


def require_columns(columns: Sequence[str], names: Iterable[str], where: str) -> None:
    """Refuse a file without its caption column, or with two columns of one name.

    Args:
        columns: The columns to read, the caption's first.
        names: The columns that the file has.
    """
    caption_column, *_ = columns
    counts = Counter(iter(names))  # iter(): of a mapping, Counter would take the values as counts
    for name in columns:
        if counts[name] > 1:
            raise UnreadablePromptsError(f"{where}: two columns are named {name!r}; rename one")
    if caption_column not in counts:
        known = [name[:_MAX_SHOWN] for name in counts][:_MAX_SHOWN]
        raise UnreadablePromptsError(
            f"{where}: no column {caption_column!r} among {', '.join(known)}; "
            f"give --caption-column{did_you_mean(caption_column, known)}"
        )


def pick(row: Row, columns: Sequence[str]) -> Row:
    """The cells of the columns to read, with the caption under the name `caption`.

    A column that is read as the caption is not read a second time under its own name, such as
    `label`.
    """
    caption_column, *others = columns
    return {name: row[name] for name in others if name in row and name != caption_column} | {
        "caption": row[caption_column]
    }


def is_encodable(text: str) -> bool:
    """Whether a text holds no half of a surrogate pair."""
    # isascii() comes first because it is fast.
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
