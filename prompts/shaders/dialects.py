"""The dialects of fragment shaders, and a shader as one line of text.

TwiGL (https://twigl.app) has four modes that leave out more and more of a shader, each as GLSL ES
1.00, as GLSL ES 3.00 (`300`) or with two targets (`mrt`); Shadertoy has its own. Shaders21k
(arXiv:2211.16412) collected both.
"""

import re
from dataclasses import dataclass

MODES = ("classic", "geek", "geeker", "geekest", "shadertoy")
VERSIONS = ("100", "300", "mrt")

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shader:
    """The text of a shader, and how it is to be read."""

    mode: str
    """Of MODES: what is declared for it. `geekest` is the body of main alone."""
    version: str
    """Of VERSIONS; Shadertoy is 300."""
    code: str
    """Lines are those of the file, with single spaces for any white space within them."""


def shader_of(code: str, mode: str = "", version: str = "") -> Shader:
    """A shader of some code. What is not given is told from the code.

    Example: `shader_of("o=vec4(FC.xy/r,.5,1);")` is geekest, 300.
    """
    bare = _COMMENT.sub(" ", code)
    lines = "\n".join(" ".join(line.split()) for line in code.splitlines())
    mode = mode or _mode_of(bare)
    return Shader(mode=mode, version=version or _version_of(bare, mode), code=lines)


def _mode_of(code: str) -> str:
    if not re.search(r"\bvoid\s+main\s*\(", code):
        return "shadertoy" if re.search(r"\bmainImage\s*\(", code) else "geekest"
    uniforms = re.findall(r"\buniform\s+(?:\w+\s+)?\w+\s+([\w\s,]+);", code)
    names = {name.strip() for names in uniforms for name in names.split(",")}
    if names & {"resolution", "time", "mouse", "backbuffer"}:
        return "classic"
    return "geek" if names & {"r", "t", "m", "b"} else "geeker"


def _version_of(code: str, mode: str) -> str:
    if mode == "shadertoy":
        return "300"
    if re.search(r"\bo[01]\b", code):
        return "mrt"
    if "gl_FragColor" in code:
        return "100"
    declares = re.search(r"#\s*version\s+300|\bout\s+(?:\w+\s+)?vec4\b", code)
    return "300" if declares or re.search(r"\bo\b\s*[-+*/.=]", code) else "100"


def to_text(shader: Shader) -> str:
    """The shader as one line, which `from_text` reads back.

    Example: "geekest 300: o=vec4(1);\\\\n// white".
    """
    escaped = shader.code.replace("\\", "\\\\").replace("\n", "\\n")
    return f"{shader.mode} {shader.version}: {escaped}"


def from_text(text: str) -> Shader:
    """The shader of a text. Raises ValueError for any other text."""
    head, colon, escaped = text.partition(": ")
    mode, _, version = head.partition(" ")
    if not colon or mode not in MODES or version not in VERSIONS:
        raise ValueError(
            f"{text!r:.60} is no shader, expected MODE VERSION: CODE, such as 'geekest 300: ...'"
        )
    code = re.sub(r"\\(n|\\)", lambda match: "\n" if match[1] == "n" else "\\", escaped)
    return Shader(mode=mode, version=version, code=code)
