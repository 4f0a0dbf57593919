"""The renderer `shaders`: what is drawn; a broken shader costs nothing but its own views."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.renderers.shaders import COLUMNS, Shaders, ShadersConfig
from pipeline.renderers.shaders.process import DrawingProcess, ShaderError
from pipeline.renderers.shaders.wrapping import VERTEX, initialised, wrap
from pipeline.testing.requests import requests_for
from pipeline.views import RenderedView
from prompts.shaders.dialects import shader_of, to_text
from tests.running import environment, synth

pytestmark = pytest.mark.slow


def can_draw() -> bool:
    process = DrawingProcess(size_px=8, device="cpu", compile_s=60, draw_s=60, memory_gib=8)
    try:
        process.start()
    except PipelineError:
        return False
    process.close()
    return True


pytest.importorskip("moderngl")
if not can_draw():
    pytest.skip("no EGL with Mesa here: libegl1 and libgl1", allow_module_level=True)

SIDE = 8


def drawn(code: str, *, mode: str = "", version: str = "", views: int = 1, **keys: Any) -> Any:
    renderer = Shaders(ShadersConfig(size_px=SIDE, **keys))
    text = to_text(shader_of(code, mode, version))
    wanted = requests_for(
        [text], columns=COLUMNS, variations=[{}], views_per_subject=views, kind="shader"
    )
    rendered = renderer.render(wanted)
    renderer.process.close()
    return rendered if views > 1 else rendered[0]


def error_of(code: str, **keys: Any) -> str:
    view: RenderedView = drawn(code, **keys)
    assert not view.is_drawn
    assert not view.pixels.any()
    error = str(view.values["error"])
    assert "\n" not in error
    return error


# Red grows to the right, green upwards; blue is half.
GRADIENT = {
    "classic": "uniform vec2 resolution;"
    "void main(){{{out}=vec4(gl_FragCoord.xy/resolution,.5,1);}}",
    "geek": "uniform vec2 r;void main(){{{out}=vec4(gl_FragCoord.xy/r,.5,1);}}",
    "geeker": "void main(){{{out}=vec4(gl_FragCoord.xy/r,.5,1);}}",
    "geekest": "{out}=vec4(FC.xy/r,.5,1);",
    "shadertoy": "void mainImage(out vec4 c,in vec2 p){{c=vec4(p/iResolution.xy,.5,1);}}",
}


@pytest.mark.parametrize("version", ["100", "300", "mrt"])
@pytest.mark.parametrize("mode", GRADIENT)
def test_each_dialect_draws_the_same_picture(mode: str, version: str) -> None:
    out = {"100": "gl_FragColor", "300": "o", "mrt": "o0"}[version]
    declared = {"300": "out vec4 o;", "mrt": "out vec4 o0;out vec4 o1;"}.get(version, "")
    if mode == "shadertoy" and version != "300":
        pytest.skip("Shadertoy has one version")
    head = declared if mode in ("classic", "geek") else ""
    view = drawn(head + GRADIENT[mode].format(out=out), mode=mode, version=version)
    assert view.values["error"] == ""
    places = ((np.arange(SIDE) + 0.5) / SIDE * 255).round()
    expected = np.zeros((SIDE, SIDE, 3))
    expected[..., 0], expected[..., 1] = places[None, :], places[::-1, None]
    expected[..., 2] = 127.5
    assert np.abs(view.pixels - expected).max() <= 1


def test_time_moves_a_shader_and_is_in_the_row() -> None:
    views = drawn("o=vec4(t/10.,0,0,1);", views=3)
    for view in views:
        time = view.values["time"]
        assert 0.1 <= time <= 10
        assert view.pixels[0, 0, 0] == pytest.approx(time / 10 * 255, abs=1)
    assert len({view.values["time"] for view in views}) == 3


def test_the_viewport_moves_and_zooms_around_its_middle() -> None:
    view = drawn("o=vec4(FC.xy/r*.25+.5,0,1);", shift=0.5, zoom=2.0)
    x, y, zoom = (view.values[name] for name in ("viewport_x", "viewport_y", "zoom"))
    assert x != 0
    assert 0.5 <= zoom <= 2
    middle = view.pixels[SIDE // 2 - 1 : SIDE // 2 + 1, SIDE // 2 - 1 : SIDE // 2 + 1, :2]
    expected = (np.array([x, y]) + 0.5) * 0.25 + 0.5
    assert middle.mean(axis=(0, 1)) / 255 == pytest.approx(expected, abs=0.01)
    width = (float(view.pixels[0, -1, 0]) - float(view.pixels[0, 0, 0])) / 255
    assert width == pytest.approx(0.25 * zoom * (SIDE - 1) / SIDE, abs=0.02)


def test_variables_begin_with_zero_as_in_webgl() -> None:
    assert initialised("float i,e=1.;") == "float i=float(0),e=1.;"
    assert initialised("vec2 p=f(a,b),q;") == "vec2 p=f(a,b),q=vec2(0);"
    assert initialised("for(int i;i++<3;)") == "for(int i=int(0);i++<3;)"
    assert initialised("float f(float x){") == "float f(float x){"
    assert initialised("a=float (1);") == "a=float (1);"
    assert drawn("float n;for(int i;i++<3;)n+=.2;o=vec4(n,0,0,1);").pixels[0, 0, 0] == 153


def test_what_is_no_declaration_is_left_as_it_is() -> None:
    for code in (
        "#define F float\nvec2(1);",
        "// a float value\ndiscard;",
        "/* float x; */ o=vec4(1);",
    ):
        assert initialised(code) == code
    # A long text without semicolons is not read again for every word.
    assert initialised("float a " * 30_000) == "float a " * 30_000


def test_a_helper_named_as_shadertoys_main_is_no_shadertoy() -> None:
    code = (
        "uniform vec2 resolution;void mainImage(out vec4 c,in vec2 p){c=vec4(1,0,0,1);}"
        "void main(){mainImage(gl_FragColor,gl_FragCoord.xy);}"
    )
    assert drawn(code).pixels[0, 0].tolist() == [255, 0, 0]


def test_uniforms_of_another_type_than_the_dialect_has() -> None:
    code = (
        "uniform int time;uniform vec3 resolution;void main(){gl_FragColor=vec4(resolution/8.,1);}"
    )
    assert drawn(code).pixels[0, 0].tolist() == [255, 255, 32]


def test_two_targets_with_a_function_that_has_an_out_parameter() -> None:
    code = (
        "uniform vec2 r;void f(out vec4 c){c=vec4(0,1,0,1);}\nout vec4 o0;\nout vec4 o1;\n"
        "void main(){f(o0);o1=vec4(1);}"
    )
    assert drawn(code, mode="geek", version="mrt").pixels[0, 0].tolist() == [0, 255, 0]


class TestBroken:
    """The reason names the user's file and line; what follows is drawn again."""

    @pytest.mark.parametrize(
        ("code", "mode"),
        [
            ("void mainImage(out vec4 c, in vec2 p) {\n  c = vec4(1);\n  c = nothing;\n}", ""),
            ("precision highp float;\nvoid main() {\n gl_FragColor = nothing;\n}", "classic"),
            ("float x=1.;\n// text\no=vec4(nothing);", "geekest"),
            ("#version 300 es\nout vec4 c;\nvoid main(){c=vec4(nothing);}", "classic"),
            (
                "\n\n#version 300 es\n".join(("", "out vec4 c;void main(){c=nothing;}"))[1:],
                "classic",
            ),
        ],
    )
    def test_the_line_is_that_of_the_file(self, code: str, mode: str) -> None:
        assert "line 3: `nothing' undeclared" in error_of(code, mode=mode)

    def test_a_texture_that_nobody_gave(self) -> None:
        code = "void mainImage(out vec4 c,in vec2 p){c=texture(iChannel0,p);}"
        assert "asks for the texture iChannel0, and none is given" in error_of(code)
        code = (
            "uniform sampler2D photo;uniform vec2 r;void main(){gl_FragColor=texture2D(photo,r);}"
        )
        assert "asks for the texture photo" in error_of(code)

    def test_a_backbuffer_is_black(self) -> None:
        assert drawn("o=texture(b,FC.xy/r)+vec4(.2,0,0,1);").pixels[0, 0].tolist() == [51, 0, 0]

    def test_a_compile_bomb_is_ended(self) -> None:
        lines = "".join(f"x=sin(x*1.{n:04d}+cos(x+{n}.));" for n in range(4000))
        error = error_of(f"float x=t;{lines}o=vec4(x);", compile_s=1.0)
        assert "took more than 1 s to compile, and was ended" in error

    def test_a_process_that_ends_is_started_again(self) -> None:
        process = DrawingProcess(size_px=8, device="cpu", compile_s=60, draw_s=60, memory_gib=8)
        code = wrap(shader_of("o=vec4(1,0,0,1);"))
        process.compile(VERTEX, code, 1)
        assert process._process is not None
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(ShaderError, match="ended with signal 9"):
            process.draw(1.0, (0.0, 0.0, 1.0))
        process.compile(VERTEX, code, 1)
        assert process.draw(1.0, (0.0, 0.0, 1.0))[0, 0].tolist() == [255, 0, 0]
        process.close()

    def test_the_process_ends_with_its_parent(self, tmp_path: Path) -> None:
        script = (
            "import time\n"
            "from pipeline.renderers.shaders.process import DrawingProcess\n"
            "p = DrawingProcess(size_px=8, device='cpu', compile_s=60, draw_s=60, memory_gib=8)\n"
            "p.start()\nprint(p._process.pid, flush=True)\ntime.sleep(60)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            parent.kill()
            parent.wait()
            for _ in range(200):
                if not Path(f"/proc/{child}").exists():
                    break
                if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
                    break
                time.sleep(0.05)
            else:
                pytest.fail("the drawing process is still there")

    def test_no_opengl_is_one_line_that_says_what_to_install(self) -> None:
        process = DrawingProcess(size_px=8, device="cpu", compile_s=1, draw_s=1, memory_gib=0.01)
        with pytest.raises(PipelineError, match=r"no OpenGL can be used here .* libegl1"):
            process.start()


def test_broken_shaders_cost_their_own_groups_and_nothing_else(tmp_path: Path) -> None:
    folder, url = tmp_path / "shaders", tmp_path / "set"
    folder.mkdir()
    bomb = "".join(f"x=sin(x*1.{n:04d}+cos(x+{n}.));" for n in range(4000))
    texts = {
        "bomb": f"float x=t;{bomb}o=vec4(x);",
        "broken": "float x=1.;\no=vec4(nothing);",
        "endless": "float x;while(true){x+=sin(x+t);if(x<-9e9)break;}o=vec4(x);",
        "good": "o=vec4(FC.xy/r,fract(t),1);",
        "texture": "void mainImage(out vec4 c,in vec2 p){c=texture(iChannel0,p);}",
        "wide": "o=vec4(fract(FC.xy/r+t),0,1);",
    }
    for name, code in texts.items():
        (folder / f"{name}.frag").write_text(code)
    output = synth(
        "generate", "--renderer", "shaders", "--set", "prompts.source=shaders",
        "--set", f"prompts.folder={folder}", "--set", "renderer.compile_s=2",
        "--set", "renderer.size_px=16", "--views-per-subject", 3, "--subjects-per-shard", 2,
        "--executor", "inline", "--out", url,
    )  # fmt: skip
    assert "broken.frag, line 2: `nothing' undeclared" in output
    from manifests.shard_set import ShardSet

    shards = ShardSet.open(str(url))
    rows = [row for shard in range(3) for row in shards.manifest(shard).rows]
    by_name = {name: [row for row in rows if row.label == f"{name}.frag"] for name in texts}
    for name in ("good", "wide"):
        assert [row.is_ok for row in by_name[name]] == [True] * 3
    for name in ("bomb", "broken", "texture"):
        assert [row.reason for row in by_name[name]] == ["not-drawn"] * 3
        assert all(f"{name}.frag" in str(row.values["error"]) for row in by_name[name])
    # Mesa cuts endless loops after a while and gives some picture; other drivers meet the deadline.
    for row in by_name["endless"]:
        assert row.reason in ("", "blank") or "took more than" in str(row.values["error"])
    assert "all right" in synth("verify", url)
