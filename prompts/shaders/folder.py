"""A folder of shaders: plain files, the layout of Shaders21k, and Shadertoy's JSON."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.foundation.files import read_regular
from manifests.foundation.messages import printable
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.shaders.dialects import MODES, VERSIONS, Shader, shader_of

EXAMPLES = Path(__file__).parent / "examples"
SUFFIXES = (".frag", ".fragment", ".glsl", ".fs", ".json")
MAX_BYTES = 256 << 10
SHADERTOY_LICENCE = "CC-BY-NC-SA-3.0"
"""What holds on Shadertoy where an author says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShaderFile:
    """One shader of a folder. Only a file that can be read becomes one."""

    path: Path
    shader: Shader
    author: str = ""
    licence: str = ""
    source: str = ""
    """Where it comes from, if its file says so."""


def read_folder(folder: Path) -> Iterator[ShaderFile]:
    """The shaders of a folder and of the folders in it, in the order of their paths.

    Raises:
        UnreadablePromptsError: There is no such folder, or no shader in it.
        BadPromptError: A file is too large, or no text.
    """
    if not folder.is_dir():
        raise UnreadablePromptsError(f"{folder}: no such folder of shaders")
    # `modes` of Shaders21k has four lines for each file of `fragments`.
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in SUFFIXES and path.is_file() and path.parent.name != "modes"
    )
    if not paths:
        raise UnreadablePromptsError(
            f"{folder}: no shader in it; each is a file NAME{', NAME'.join(SUFFIXES)}"
        )
    for path in paths:
        yield _read(path)


def _read(path: Path) -> ShaderFile:
    try:
        text = read_regular(path, max_bytes=MAX_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as exc:
        raise BadPromptError(f"{path}: not a text of at most 256 kB ({exc})") from exc
    if path.suffix == ".json":
        return _of_shadertoy(path, text)
    mode, version = _stated(path)
    licence = re.search(r"SPDX-License-Identifier:\s*([\w.+-]+)", text)
    author = re.search(
        r"(?im)^[^\w\n]*(?:author|copyright)\b[: \t]*(?:\(c\))?[ \t]*(.{1,100})$", text
    )
    return ShaderFile(
        path=path,
        shader=shader_of(text, mode, version),
        author=author[1].strip() if author else "",
        licence=licence[1] if licence else "",
    )


def _stated(path: Path) -> tuple[str, str]:
    """Mode and version that a file's name or its file of modes states; empty texts otherwise."""
    # NAME.MODE.frag or NAME.MODE.VERSION.frag
    words = path.name.lower().split(".")[1:-1]
    mode = next((word for word in words if word in MODES), "")
    version = next((word for word in words if word in VERSIONS), "")
    modes = path.parent.parent / "modes" / path.name
    if path.parent.name == "fragments" and modes.is_file():
        try:
            lines = read_regular(modes, max_bytes=1000).decode("utf-8", "replace").split()
        except OSError as exc:
            raise BadPromptError(f"{modes}: cannot be read ({exc.strerror or exc})") from exc
        flags = [line.lower() in ("1", "true") for line in lines[1:3]]
        if lines and lines[0].lower() in MODES and len(flags) == 2:
            return lines[0].lower(), "mrt" if flags[1] else "300" if flags[0] else "100"
    return mode, version


def _of_shadertoy(path: Path, text: str) -> ShaderFile:
    try:
        document: Any = json.loads(text)
        document = document.get("Shader", document)
        info: Mapping[str, Any] = document["info"]
        passes = document["renderpass"]
        images = [entry for entry in passes if entry.get("type", "image") == "image"]
        code, inputs = images[0]["code"], images[0].get("inputs") or []
        if not isinstance(code, str):
            raise TypeError(f"its code is {code!r:.40}")
        num_inputs = len(inputs)
        about = [printable(str(info.get(key) or "")) for key in ("id", "name", "username")]
        licence = str(info.get("license") or info.get("licence") or SHADERTOY_LICENCE)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as exc:
        raise BadPromptError(
            f"{path}: no shader of Shadertoy's API, which has info and renderpass ({exc})"
        ) from exc
    if len(passes) > 1 or num_inputs:
        # Kept as a shader that cannot be drawn, so that its group has a reason in the set.
        what = f"{len(passes)} passes" if len(passes) > 1 else f"{num_inputs} textures"
        code = f"#error it has {what}, and one pass without textures is drawn\n{code}"
    identifier, name, author = about
    return ShaderFile(
        path=path,
        shader=shader_of(code, "shadertoy", "300"),
        author=author,
        licence=licence,
        source=f"shadertoy {identifier} {name!r} by {author}" if identifier else "",
    )
