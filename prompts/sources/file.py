"""Captions from a file or a URL: one on each line, or a column of a table."""

from collections.abc import Iterator, Sequence
from typing import Literal

from manifests.columns import DeclaredColumn, Value
from manifests.foundation.settings import Table
from manifests.ids import canonical_text
from prompts.errors import BadPromptError
from prompts.reading import read_prompts
from prompts.subject import Subject


class CaptionFileConfig(Table):
    """Table [prompts] of a recipe."""

    source: Literal["file"] = "file"
    file: str
    """Path or URL of the captions: .txt, .csv, .tsv, .jsonl or .parquet."""
    caption_column: str = "caption"
    """Column of the captions in a table; a .txt file has none."""


class CaptionFile:
    """Prompt source `file`. The laws are in `prompts.sources`.

    Besides the captions it reads the columns `label`, `licence` and `source`, and those that the
    renderer declares for subjects.
    """

    Config = CaptionFileConfig

    def __init__(self, config: CaptionFileConfig) -> None:
        self.config = config

    def subjects(self, columns: Sequence[DeclaredColumn]) -> Iterator[Subject]:
        """The captions of the file, in its order."""
        for prompt in read_prompts(
            self.config.file,
            caption_column=self.config.caption_column,
            value_columns=[column.name for column in columns],
        ):
            yield Subject(
                text=prompt.caption,
                label=prompt.label,
                licence=prompt.licence,
                source=prompt.source,
                values={
                    column.name: _value(column, prompt.values[column.name], prompt.where)
                    for column in columns
                },
                where=prompt.where,
            )


def _value(column: DeclaredColumn, text: str, where: str) -> Value:
    """A cell as a value of a declared column; an empty cell is the zero of the column's type."""
    if column.type == "string":
        return canonical_text(text)
    if not text:
        return column.zero()
    try:
        # Not bool(text), which is True for "false".
        value: Value = (
            {"true": True, "false": False}[text.lower()]
            if column.type == "bool"
            else (int(text) if column.type == "int64" else float(text))
        )
    except (KeyError, ValueError) as exc:
        raise BadPromptError(
            f"{where}: {column.name} is {text!r:.100}, expected {column.type}; mend the cell"
        ) from exc
    if not column.holds(value):
        raise BadPromptError(
            f"{where}: {column.name} is {text!r:.100}, out of its range; mend the cell"
        )
    return value
