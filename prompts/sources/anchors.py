"""Anchors in the latent space of a generator, by number and seed, with a class or without."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from manifests.columns import DeclaredColumn
from manifests.foundation.files import read_regular
from manifests.foundation.settings import Table
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.subject import Subject

CLASS_COLUMN = "class_index"
MAX_BYTES = 16 << 20


class AnchorsConfig(Table):
    """Table [prompts] of a recipe."""

    source: Literal["anchors"] = "anchors"
    count: int = Field(default=1000, ge=1, le=10**9)
    """Anchors in all."""
    first: int = Field(default=0, ge=0)
    """Number of the first of them."""
    seed: int = Field(default=0, ge=0)
    """Another seed makes other anchors."""
    classes: int = Field(default=0, ge=0, le=1_000_000)
    """Anchor N has class N modulo this number; 0 for no class."""
    class_names: str = ""
    """A file with the name of a class on each line; names become labels."""


class Anchors:
    """Prompt source `anchors`. The laws are in `prompts.sources`."""

    Config = AnchorsConfig

    def __init__(self, config: AnchorsConfig) -> None:
        self.config = config

    def subjects(self, columns: Sequence[DeclaredColumn]) -> Iterator[Subject]:
        """Anchors in the order of their numbers. The text decides the latent."""
        values = {column.name: column.zero() for column in columns}
        config = self.config
        has_classes = CLASS_COLUMN in values
        if config.classes and not has_classes:
            raise BadPromptError(
                "prompts.classes: the renderer takes no classes of latents; give --renderer "
                "latent-neighbourhood"
            )
        names = self._names()
        for number in range(config.first, config.first + config.count):
            text = f"anchor {number} of seed {config.seed}"
            index, label = -1, ""
            if config.classes:
                index = number % config.classes
                label = names[index] if names else f"class-{index:04d}"
                text += f", class {index}"
            yield Subject(
                kind="latent",
                text=text,
                label=label,
                source="synth anchors",
                values={**values, CLASS_COLUMN: index} if has_classes else values,
                where=f"anchor {number}",
            )

    def _names(self) -> list[str]:
        path = self.config.class_names
        if not path:
            return []
        if not self.config.classes:
            raise BadPromptError(f"{path}: class names without prompts.classes; give their number")
        try:
            text = read_regular(Path(path).expanduser(), max_bytes=MAX_BYTES).decode("utf-8-sig")
        except (OSError, ValueError, RuntimeError) as exc:
            raise UnreadablePromptsError(f"{path}: no text file of class names ({exc})") from exc
        names = [line.strip() for line in text.splitlines() if line.strip()]
        if len(names) < self.config.classes:
            raise BadPromptError(
                f"{path}: {len(names):,} names for {self.config.classes:,} classes"
            )
        return names
