"""Fragment shaders of a folder, with author and licence where a file says them."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from manifests.columns import DeclaredColumn
from manifests.foundation.settings import Table
from manifests.ids import canonical_text
from prompts.shaders.dialects import to_text
from prompts.shaders.folder import EXAMPLES, read_folder
from prompts.subject import Subject

log = logging.getLogger(__name__)

AUTHOR_COLUMN = "author"


class ShadersConfig(Table):
    """Table [prompts] of a recipe."""

    source: Literal["shaders"] = "shaders"
    folder: str = "examples"
    """A folder of shaders: NAME.frag, NAME.MODE.frag, NAME.json of Shadertoy's API, or the folders
    `fragments` and `modes` of Shaders21k. `examples` are those of this package."""
    licence: str = Field(default="", max_length=100)
    """Of shaders whose file states none."""


class Shaders:
    """Prompt source `shaders`. The laws are in `prompts.sources`."""

    Config = ShadersConfig

    def __init__(self, config: ShadersConfig) -> None:
        self.config = config

    def subjects(self, columns: Sequence[DeclaredColumn]) -> Iterator[Subject]:
        """Shaders in the order of their paths; of equal ones the first."""
        values = {column.name: column.zero() for column in columns}
        is_own = self.config.folder == "examples"
        folder = EXAMPLES if is_own else Path(self.config.folder).expanduser()
        texts: set[str] = set()
        num_unknown = num_limited = 0
        for file in read_folder(folder):
            text = canonical_text(to_text(file.shader))
            if text in texts:
                log.warning("%s: equal to an earlier shader, and left out", file.path)
                continue
            texts.add(text)
            licence = file.licence or self.config.licence
            num_unknown += not licence
            num_limited += "-NC" in licence.upper() or "-ND" in licence.upper()
            if AUTHOR_COLUMN in values:
                values = {**values, AUTHOR_COLUMN: canonical_text(file.author)}
            name = file.path.relative_to(folder).as_posix()
            yield Subject(
                kind="shader",
                text=text,
                label=name,
                licence=licence,
                source=file.source or name,
                values=values,
                where=str(file.path),
            )
        if num_unknown or num_limited:
            log.warning(
                "%s: %d shaders state no licence, %d forbid commercial use or changes; ask their "
                "authors before you publish pictures of them",
                folder,
                num_unknown,
                num_limited,
            )
