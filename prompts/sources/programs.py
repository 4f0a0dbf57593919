"""Image programs: those of this package by number, or a folder of texts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from manifests.columns import DeclaredColumn, Value
from manifests.foundation.files import read_regular
from manifests.foundation.settings import Table
from manifests.ids import canonical_text
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.programs import grammar
from prompts.programs.accepted import accepted_programs, program_text
from prompts.subject import Subject

MAX_BYTES = 64 << 10
"""Largest file of a program."""


class ProgramsConfig(Table):
    """Table [prompts] of a recipe."""

    source: Literal["programs"] = "programs"
    count: int = Field(default=1000, ge=1)
    """Programs of this package, of those that passed its filters; without `folder`."""
    first: int = Field(default=0, ge=0)
    """Number of the first of them."""
    folder: str = ""
    """A folder of programs of your own, each a file NAME.txt; with it, `count` is not used."""


class Programs:
    """Prompt source `programs`. The laws are in `prompts.sources`."""

    Config = ProgramsConfig

    def __init__(self, config: ProgramsConfig) -> None:
        self.config = config

    def subjects(self, columns: Sequence[DeclaredColumn]) -> Iterator[Subject]:
        """Programs in the order of their numbers, or of the names of their files."""
        values = {column.name: column.zero() for column in columns}
        if self.config.folder:
            yield from self._of_folder(Path(self.config.folder).expanduser(), values)
            return
        first, count, there = self.config.first, self.config.count, len(accepted_programs())
        if first + count > there:
            raise UnreadablePromptsError(
                f"programs: {first + count:,} are asked for, and this package has {there:,}; give "
                "a smaller --set prompts.count"
            )
        for number in range(first, first + count):
            yield Subject(
                kind="program",
                text=canonical_text(program_text(number)),
                label=f"program-{number:05d}",
                licence="CC0-1.0",
                source=f"synth image programs, grammar {grammar.VERSION}, number {number}",
                values=values,
            )

    def _of_folder(self, folder: Path, values: Mapping[str, Value]) -> Iterator[Subject]:
        if not folder.is_dir():
            raise UnreadablePromptsError(f"{folder}: no such folder of programs")
        paths = sorted(folder.glob("*.txt"))
        if not paths:
            raise UnreadablePromptsError(f"{folder}: no program in it; each is a file NAME.txt")
        for path in paths:
            try:
                text = read_regular(path, max_bytes=MAX_BYTES).decode()
            except (OSError, ValueError) as exc:
                raise BadPromptError(f"{path}: not a text of at most 64 kB ({exc})") from exc
            # A program is one line in the plan, where white space is collapsed.
            statements = [line.strip() for line in text.splitlines() if line.strip()]
            yield Subject(
                kind="program",
                text=canonical_text("; ".join(statements)),
                label=path.stem,
                source=path.name,
                values=values,
                where=str(path),
            )
