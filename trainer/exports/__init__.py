"""Exports: what a finished run leaves behind, in the format of somebody else.

This file holds the protocol, its laws and the literal table. The other files of this folder are
plug-ins, and none of them imports another. The laws, held by `tests/conformance/test_exports.py`:

1. A stock loader, which imports nothing of this project, gives features equal to those of the
   module that was exported.
2. It writes the files that it declares, whole or not at all, and no other.
3. The same module gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import nn

from manifests.foundation.plugins import Entry, load_plugin
from trainer.models.encoder import EncoderSpec

EXPORTS = {
    "timm": Entry("trainer.exports.timm_encoder:TimmEncoder", "trainer"),
    "text": Entry("trainer.exports.text_half:TextHalf", "trainer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an export comes from."""

    objective: str
    steps: int
    url: str
    """Of the set that was learned from, without secrets."""
    root_sha256: str
    """Hash of that set."""


class Export(Protocol):
    """One format."""

    part: ClassVar[str]
    """Which part of a run it takes: `image`, `text`, or another one that an objective exports."""
    files: ClassVar[tuple[str, ...]]
    """Names of all files that it writes into the folder of the run."""

    def write(self, folder: Path, module: Any, spec: EncoderSpec, origin: Origin) -> None:
        """Write a module.

        Args:
            folder: Folder of the run, which is there.
            module: The part.
            spec: What makes the image tower.
            origin: Is written beside the weights where the format has room for it.

        Raises:
            ConfigError: The module cannot be written in this format.
        """
        ...


def export_class(name: str) -> type[Export]:
    """The export behind a name. Raises PluginError."""
    export: type[Export] = load_plugin("export", EXPORTS, name, Export)
    return export


def exported_files(names: Sequence[str]) -> list[str]:
    """Files that the named exports, and all of this package, write into a run."""
    return [file for name in dict.fromkeys([*EXPORTS, *names]) for file in export_class(name).files]


def export_run(
    folder: Path,
    names: Sequence[str],
    parts: Mapping[str, nn.Module],
    spec: EncoderSpec,
    origin: Origin,
) -> None:
    """Write every named export whose part the objective provides.

    Args:
        folder: Folder of the run.
        names: Of the table, or dotted paths.
        parts: What the objective leaves behind; `image` is always there.
        spec: What makes the image tower.
        origin: Where the parts come from.

    Raises:
        PluginError: There is no such export.
    """
    for name in names:
        export = export_class(name)
        if export.part in parts:
            export().write(folder, parts[export.part], spec, origin)
