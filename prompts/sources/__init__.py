"""Prompt sources say what to depict. This folder holds only prompt sources.

Laws, tested for every entry of the table (tests/conformance):

1. The same configuration gives the same subjects in the same order.
2. There is at least one subject, and each has a text.
3. A subject has a value for each declared column of scope `subject`, and for no other.
4. Nothing is rendered, and the global random state is not touched.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from manifests.columns import DeclaredColumn
from manifests.foundation.plugins import Entry, load_plugin
from manifests.foundation.settings import Table
from prompts.subject import Subject


class PromptSource(Protocol):
    """A source of subjects. The laws are above."""

    Config: type[Table]
    """Keys of the recipe's table [prompts]: `source`, and those of this source."""

    def __init__(self, config: Any) -> None:
        """Keep an instance of Config; read nothing yet."""

    def subjects(self, columns: Sequence[DeclaredColumn]) -> Iterable[Subject]:
        """What to depict, in a fixed order. Equal subjects may come several times.

        Args:
            columns: The columns of scope `subject` that the renderer declares.

        Raises:
            PromptError: The source cannot be read, or a row of it cannot be used.
        """


PROMPT_SOURCES: Mapping[str, Entry] = {
    "file": Entry("prompts.sources.file:CaptionFile", ""),
    "programs": Entry("prompts.sources.programs:Programs", ""),
    "shaders": Entry("prompts.sources.shaders:Shaders", ""),
    "anchors": Entry("prompts.sources.anchors:Anchors", ""),
}


def prompt_source_class(name: str) -> type[PromptSource]:
    """The prompt source behind a name."""
    plugin: type[PromptSource] = load_plugin("prompt source", PROMPT_SOURCES, name, PromptSource)
    return plugin
