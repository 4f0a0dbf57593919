"""From a shader in its dialect to a whole fragment shader of GLSL 3.30, which Mesa and GPUs take.

The user's first line stays line 1, so that a compiler's messages name lines of the user's file.
Conventions: TwiGL's documentation (https://github.com/doxas/twigl) and Shadertoy's how-to.
"""

import re

from prompts.shaders.dialects import Shader

VERSION = 1
"""Of this module and the prelude: the same shader gives the same picture as long as it stands."""

VERTEX = """#version 330 core
in vec2 corner;
void main() { gl_Position = vec4(corner, 0.0, 1.0); }
"""

_SHADERTOY = """
uniform vec3 iResolution; uniform float iTime; uniform float iTimeDelta; uniform float iFrameRate;
uniform int iFrame; uniform vec4 iMouse; uniform vec4 iDate; uniform float iSampleRate;
uniform float iChannelTime[4]; uniform vec3 iChannelResolution[4];
"""
_GEEKER = """
uniform vec2 r; uniform vec2 m; uniform float t; uniform float f; uniform float s;
"""
# The place in the viewport in place of the place on the screen. Within its own definition a name
# is not replaced again.
_VIEWPORT = """
uniform vec3 synth_viewport;
#define gl_FragCoord vec4(gl_FragCoord.xy * synth_viewport.z + synth_viewport.xy, gl_FragCoord.zw)
"""

# Noise of this project's own: gradients at the corners of a lattice, from a hash of integers.
_NOISE = """
uint synth_hash(uint x) { x ^= x >> 16; x *= 0x7feb352dU; x ^= x >> 15; x *= 0x846ca68bU;
  return x ^ (x >> 16); }
float synth_corner(ivec4 c, vec4 d) { uint h = synth_hash(uint(c.x) + synth_hash(uint(c.y)
  + synth_hash(uint(c.z) + synth_hash(uint(c.w)))));
  vec4 g = vec4(h & 255U, (h >> 8) & 255U, (h >> 16) & 255U, h >> 24) / 127.5 - 1.0;
  return dot(g, d); }
float snoise4D(vec4 p) { ivec4 c = ivec4(floor(p)); vec4 q = fract(p);
  vec4 u = q * q * q * (q * (q * 6.0 - 15.0) + 10.0); float total = 0.0;
  for (int i = 0; i < 16; i++) { ivec4 b = ivec4(i & 1, (i >> 1) & 1, (i >> 2) & 1, i >> 3);
    vec4 w = mix(1.0 - u, u, vec4(b));
    total += w.x * w.y * w.z * w.w * synth_corner(c + b, q - vec4(b)); }
  return clamp(1.4 * total, -1.0, 1.0); }
float snoise3D(vec3 p) { return snoise4D(vec4(p, 0.5)); }
float snoise2D(vec2 p) { return snoise4D(vec4(p, 0.5, 0.5)); }
float fsnoise(vec2 c) { return fract(sin(dot(c, vec2(12.9898, 78.233))) * 43758.5453); }
float fsnoiseDigits(vec2 c) { return fract(sin(dot(c, vec2(0.129898, 0.78233))) * 437.585453); }
vec3 hsv(float h, float s, float v) {
  return v * mix(vec3(1.0), clamp(abs(fract(h + vec3(0.0, 2.0, 1.0) / 3.0) * 6.0 - 3.0) - 1.0,
  0.0, 1.0), s); }
mat2 rotate2D(float a) { return mat2(cos(a), sin(a), -sin(a), cos(a)); }
mat3 rotate3D(float angle, vec3 axis) { vec3 a = normalize(axis); float s = sin(angle);
  float c = cos(angle); float n = 1.0 - c;
  return mat3(a.x * a.x * n + c, a.y * a.x * n + a.z * s, a.z * a.x * n - a.y * s,
  a.x * a.y * n - a.z * s, a.y * a.y * n + c, a.z * a.y * n + a.x * s,
  a.x * a.z * n + a.y * s, a.y * a.z * n - a.x * s, a.z * a.z * n + c); }
const float PI = 3.141592653589793; const float PI2 = 6.283185307179586;
#define FC gl_FragCoord
"""


def num_targets(shader: Shader) -> int:
    """Targets that a shader draws to at once; the first is the picture."""
    return 2 if shader.version == "mrt" else 1


def wrap(shader: Shader) -> str:
    """A fragment shader that can be compiled."""
    code = shader.code
    # Our own line stands in place of theirs; a line must not be lost.
    code = re.sub(r"(?m)^[ \t]*#[ \t]*(version|extension)\b.*$", "", code)
    if shader.mode == "shadertoy":
        call = "synth_color = vec4(0.0); mainImage(synth_color, gl_FragCoord.xy);"
        body = f"{code}\nvoid main() {{ {call} }}"
        return _whole(_SHADERTOY + _channels(code), "out vec4 synth_color;", body)
    if shader.mode in ("geeker", "geekest"):
        head = _GEEKER + (
            "uniform sampler2D b0; uniform sampler2D b1;"
            if num_targets(shader) > 1
            else "uniform sampler2D b;"
        )
        head += _NOISE if shader.mode == "geekest" else ""
        body = code
        if shader.mode == "geekest":
            body = f"void main() {{\n#line 1\n{initialised(code)}\n}}"
        if num_targets(shader) > 1:
            outs = "layout(location=0) out vec4 o0; layout(location=1) out vec4 o1;"
        elif shader.version == "300":
            outs = "out vec4 o;"
        else:
            outs = _LEGACY
        return _whole(head, outs, body)
    declares_out = re.search(r"\bout\s+(?:\w+\s+)?vec4\b", code) is not None
    if num_targets(shader) > 1:
        # Outputs without places: the first that is named is the picture.
        code = _placed(code)
    return _whole("", "" if declares_out else _LEGACY, code)


_LEGACY = (
    "out vec4 synth_color;\n#define gl_FragColor synth_color\n"
    "#define texture2D texture\n#define textureCube texture\n#define varying in"
)


def _whole(head: str, outs: str, body: str) -> str:
    # Precision is a word of ES that GLSL 3.30 reads and does not use.
    return f"#version 330 core\n{head}\n{outs}\n{_VIEWPORT}\n#line 1\n{body}\n"


_DECLARATION = re.compile(r"(?<![\w.])(float|int|vec[234]|mat[234])[ \n]+(?=[A-Za-z_])")


def initialised(code: str) -> str:
    """Code whose variables without a value begin with zero, as in WebGL, which shaders count on.

    Example: `float i,e=1.;` becomes `float i=float(0),e=1.;`.
    """
    parts, done = [], 0
    plain = _without_comments(code)
    for match in _DECLARATION.finditer(plain):
        end = _end_of_statement(plain, match.end())
        if match.start() < done or end is None:
            continue
        names = [
            name if "=" in name or "[" in name else f"{name}={match[1]}(0)"
            for name in _split(code[match.end() : end])
        ]
        parts += [code[done : match.end()], ",".join(names)]
        done = end
    return "".join([*parts, code[done:]])


def _without_comments(code: str) -> str:
    """The code with blanks in place of comments and of lines for the preprocessor."""
    return re.sub(
        r"/\*.*?(?:\*/|\Z)|//[^\n]*|(?m:^[ \t]*#[^\n]*)",
        lambda match: re.sub(r"[^\n]", " ", match[0]),
        code,
        flags=re.DOTALL,
    )


_MAX_DECLARATION = 1000
"""Characters; without a bound, a text without semicolons would be read again for every word."""


def _end_of_statement(code: str, start: int) -> int | None:
    """Where the semicolon of a declaration is; None if it is none, such as a parameter."""
    depth = 0
    for place in range(start, min(len(code), start + _MAX_DECLARATION)):
        depth += (code[place] in "([{") - (code[place] in ")]}")
        if depth < 0:
            return None
        if code[place] == ";" and depth == 0:
            return place
    return None


def _split(text: str) -> list[str]:
    """At commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _channels(code: str) -> str:
    """Declarations of the textures that a Shadertoy shader names; they are black."""
    used = sorted(set(re.findall(r"\biChannel[0-3]\b", code)))
    return "".join(f"uniform sampler2D {name};\n" for name in used)


def _placed(code: str) -> str:
    count = -1

    def place(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f"layout(location={count}) {match[0].lstrip()}"

    # Statements alone: a parameter of a function can be `out` as well.
    return re.sub(r"(?<![^;}\n])[ \t]*out[ \t]+(?:\w+[ \t]+)?vec4\b", place, code)


def asks_for_texture(shader: Shader) -> str:
    """Name of a texture that a shader reads and nobody gives it; empty if there is none.

    A backbuffer of TwiGL is the frame before, and black before the first frame.
    """
    bare = re.sub(r"/\*.*?\*/|//[^\n]*", " ", shader.code, flags=re.DOTALL)
    if shader.mode == "shadertoy":
        channel = re.search(r"\biChannel[0-3]\b", bare)
        return channel[0] if channel else ""
    names = re.findall(r"\buniform\s+(?:\w+\s+)?sampler\w+\s+(\w+)", bare)
    own = {"backbuffer", "b", "b0", "b1", "backbuffer0", "backbuffer1"}
    return next((name for name in names if name not in own), "")
