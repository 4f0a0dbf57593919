"""What the readers of all formats share: the bounds of a file, and the columns of a row."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from manifests.foundation.plugins import did_you_mean
from prompts.errors import UnreadablePromptsError

OPTIONAL_COLUMNS = ("label", "licence", "source")
"""Columns that are read where a file has them."""

MAX_FILE_BYTES = 2 << 30
"""Bytes of one file as it is stored and, for Parquet, also unpacked: 200 bytes for each of ten
million captions."""
MAX_TEXT_CHARS = 2 << 30
"""Characters of all captions, labels and other cells of one file. Repeated texts count each time:
Parquet stores a text once, however often it comes."""
MAX_PROMPTS = 50_000_000
"""Rows of one file."""
MAX_ROW_CHARS = 1 << 20
"""Characters of one row of text, including the columns that are not read."""

_MAX_SHOWN = 50
"""Columns that a message lists at most, and characters of each of their names."""

Row = Mapping[str, Any]
Reader = Callable[[bytes, str, Sequence[str]], Iterator[tuple[int, Row]]]
"""Reader(data, where, columns) yields the number and the cells of each row.

`data` are the bytes of the file, `where` is its name for messages, and `columns` are the columns to
read, the caption's first. In the cells the caption's column is named `caption`, whatever it is
named in the file. Example: `(1, {"caption": "a red fox", "label": "fox"})`."""


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
