"""Exports: what a finished run leaves behind, in the format of somebody else.

This file holds the protocol, its laws and the literal table. The other files of this folder are
plug-ins, and none of them imports another. The laws, held by `tests/conformance/test_exports.py`:

1. A stock loader, which imports nothing of this project, gives features equal to those of the
   parts that were exported; a format with a runtime of its own states a tolerance.
2. It writes the files that it declares, each whole or not at all, and no other.
3. The same parts give the same bytes.
4. What it cannot write is refused by `check`, in one line, before a step is trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from manifests.foundation.plugins import Entry, load_plugin
from trainer.models.specs import EncoderSpec
from trainer.origin import Origin

EXPORTS = {
    "timm": Entry("trainer.exports.timm_encoder:TimmEncoder", "trainer"),
    "text": Entry("trainer.exports.text_half:TextHalf", "trainer"),
    "timm-hub": Entry("trainer.exports.timm_hub:TimmHub", "trainer"),
    "open-clip": Entry("trainer.exports.open_clip_pair:OpenClipPair", "trainer"),
    "onnx": Entry("trainer.exports.onnx_graph:OnnxGraph", "onnx"),
}

RUN_ITSELF = ("timm", "text")
"""The formats that a run itself has: `synth evaluate` and `synth export` read them. Each other one
has a folder of its own in the run."""


class Export(Protocol):
    """One format."""

    parts: ClassVar[tuple[str, ...]]
    """Parts of a run that it takes: `image`, `text`, or others that an objective exports."""
    files: ClassVar[tuple[str, ...]]
    """Names of all files that it writes into its folder."""

    def check(self, parts: Mapping[str, Any], spec: EncoderSpec) -> None:
        """Refuse what cannot be written in this format; the weights need not be trained yet.

        Args:
            parts: Modules by name, all of those that it takes; on any device, in any mode.
            spec: What makes the image tower.

        Raises:
            ConfigError: A module cannot be written in this format.
        """
        ...

    def write(
        self, folder: Path, parts: Mapping[str, Any], spec: EncoderSpec, origin: Origin
    ) -> None:
        """Write what `check` has let pass.

        Args:
            folder: Where the files go, which is there.
            parts: As for `check`; they are left as they are.
            spec: What makes the image tower.
            origin: Is written beside the weights where the format has room for it.

        Raises:
            ConfigError: The modules cannot be written in this format.
        """
        ...


def export_class(name: str) -> type[Export]:
    """The export behind a name. Raises PluginError."""
    export: type[Export] = load_plugin("export", EXPORTS, name, Export)
    return export


def exported_paths(names: Sequence[str]) -> list[str]:
    """Files and folders in a run that the named exports, and all of this package, write.

    Raises:
        PluginError: There is no such export, or a library that it needs is missing.
    """
    for name in names:
        export_class(name)
    folders = [_folder(name) for name in dict.fromkeys([*EXPORTS, *names])]
    files = [file for name in RUN_ITSELF for file in export_class(name).files]
    return [*files, *filter(None, folders)]


def _folder(name: str) -> str:
    """Name of the folder of an export in a run; empty for the run itself.

    Example: _folder("onnx") == "onnx", _folder("my_module:Mine") == "Mine", _folder("timm") == "".
    """
    return "" if name in RUN_ITSELF else name.rpartition(":")[2]


def check_exports(names: Sequence[str], parts: Mapping[str, Any], spec: EncoderSpec) -> None:
    """Refuse named exports that cannot write the parts of an objective; see `export_run`.

    Raises:
        PluginError: There is no such export.
        ConfigError: An export cannot write its parts.
    """
    for name in names:
        export = export_class(name)
        if parts.keys() >= {*export.parts}:
            export().check(parts, spec)


def export_run(
    run: Path,
    names: Sequence[str],
    parts: Mapping[str, Any],
    spec: EncoderSpec,
    origin: Origin,
) -> None:
    """Write every named export whose parts the objective provides.

    Args:
        run: Folder of the run.
        names: Of the table, or dotted paths.
        parts: What the objective leaves behind; `image` is always there.
        spec: What makes the image tower.
        origin: Where the parts come from.

    Raises:
        PluginError: There is no such export.
        ConfigError: An export cannot write its parts.
    """
    for name in names:
        export = export_class(name)
        if parts.keys() >= {*export.parts}:
            folder = run / _folder(name)
            folder.mkdir(exist_ok=True)
            export().write(folder, parts, spec, origin)
