"""Shaders as subjects: dialects, folders, Shadertoy's JSON, authors and licences."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.columns import DeclaredColumn
from manifests.ids import canonical_text
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.shaders.dialects import Shader, from_text, shader_of, to_text
from prompts.shaders.folder import MAX_BYTES, SHADERTOY_LICENCE
from prompts.sources.shaders import Shaders, ShadersConfig
from prompts.subject import Subject
from tests.sets import refused

COLUMNS = (DeclaredColumn("author", "string", "who wrote it", scope="subject"),)
TOY = "void mainImage(out vec4 c, in vec2 p) { c = vec4(1); }"


def shaders(folder: Path | str = "examples", **keys: Any) -> list[Subject]:
    return list(Shaders(ShadersConfig(folder=str(folder), **keys)).subjects(COLUMNS))


@pytest.mark.parametrize(
    ("code", "mode", "version"),
    [
        (TOY, "shadertoy", "300"),
        ("o=vec4(FC.xy/r,.5,1);", "geekest", "300"),
        ("gl_FragColor=vec4(1);", "geekest", "100"),
        ("o0=vec4(1);o1=o0;", "geekest", "mrt"),
        ("void main(){gl_FragColor=vec4(t);}", "geeker", "100"),
        ("void main(){o=vec4(t);}", "geeker", "300"),
        ("uniform vec2 r;\nvoid main(){gl_FragColor=vec4(1);}", "geek", "100"),
        ("uniform highp float time, x;void main(){gl_FragColor=vec4(1);}", "classic", "100"),
        ("uniform vec2 resolution;out vec4 c;void main(){c=vec4(1);}", "classic", "300"),
        ("void mainImage(out vec4 c){}void main(){gl_FragColor=vec4(1);}", "geeker", "100"),
        ("// void mainImage( and o0\ngl_FragColor=vec4(1);", "geekest", "100"),
    ],
)
def test_the_dialect_is_told_from_the_code(code: str, mode: str, version: str) -> None:
    shader = shader_of(code)
    assert (shader.mode, shader.version) == (mode, version)


@given(st.text(alphabet="ab \\n\n\t;{}#/\u00e9"), st.sampled_from(["geekest", "classic"]))
def test_a_shader_comes_back_from_its_line(code: str, mode: str) -> None:
    shader = shader_of(code, mode, "300")
    text = to_text(shader)
    assert "\n" not in text
    assert from_text(text) == shader
    # The plan collapses white space; lines and their numbers survive that.
    kept = from_text(canonical_text(text) if shader.code.strip() else text)
    assert kept.code.rstrip() == shader.code.rstrip()


@pytest.mark.parametrize("text", ["", "void main(){}", "geekest: x", "odd 300: x", "geek 200: x"])
def test_texts_that_are_no_shader(text: str) -> None:
    with pytest.raises(ValueError, match="is no shader"):
        from_text(text)


def test_examples_are_one_of_each_dialect() -> None:
    found = [from_text(subject.text) for subject in shaders()]
    assert {shader.mode for shader in found} == {
        *("classic", "geek", "geeker", "geekest", "shadertoy")
    }
    assert {shader.version for shader in found} == {"100", "300", "mrt"}
    assert {subject.licence for subject in shaders()} == {"CC0-1.0"}


def test_names_and_folders_state_the_dialect(tmp_path: Path) -> None:
    (tmp_path / "plain.geekest.mrt.frag").write_text("o0=vec4(1);")
    (tmp_path / "fragments").mkdir()
    (tmp_path / "modes").mkdir()
    (tmp_path / "fragments" / "abc.fragment").write_text("void main(){}")
    (tmp_path / "modes" / "abc.fragment").write_text("geek\nTrue\nFalse\nFalse\n")
    found = {subject.label: from_text(subject.text) for subject in shaders(tmp_path)}
    assert found["plain.geekest.mrt.frag"].version == "mrt"
    assert found["fragments/abc.fragment"] == Shader(
        mode="geek", version="300", code="void main(){}"
    )


def test_author_and_licence_come_from_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    info = {"id": "XyZ", "name": "ball", "username": "somebody"}
    one_pass = [{"type": "image", "inputs": [], "code": TOY}]
    (tmp_path / "a.json").write_text(json.dumps({"Shader": {"info": info, "renderpass": one_pass}}))
    (tmp_path / "b.frag").write_text("// SPDX-License-Identifier: MIT\n// Author: else\no=vec4(1);")
    (tmp_path / "c.frag").write_text("o=vec4(.5);")
    a, b, c = shaders(tmp_path)
    assert (a.licence, a.values["author"]) == (SHADERTOY_LICENCE, "somebody")
    assert a.source == "shadertoy XyZ 'ball' by somebody"
    assert (b.licence, b.values["author"]) == ("MIT", "else")
    assert (c.licence, c.values["author"]) == ("", "")
    assert "1 shaders state no licence, 1 forbid commercial use" in caplog.text
    assert shaders(tmp_path, licence="CC-BY-4.0")[2].licence == "CC-BY-4.0"


def test_a_byte_order_mark_and_controls_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a.frag").write_bytes(b"\xef\xbb\xbfo=vec4(1);")
    info = {"id": "x", "name": "a\x1b[31m\nb", "username": "c\x1bd"}
    document = {"info": info, "renderpass": [{"code": TOY}]}
    (tmp_path / "b.json").write_text(json.dumps(document))
    a, b = shaders(tmp_path)
    assert from_text(a.text).code == "o=vec4(1);"
    assert not any(ord(letter) < 32 for letter in f"{b.source}{b.values['author']}")


def test_equal_shaders_are_one_subject(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.frag").write_text("o=vec4(1);\n")
    assert [subject.label for subject in shaders(tmp_path)] == ["a.frag"]
    assert "b.frag: equal to an earlier shader" in caplog.text


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        ([{"inputs": [{"channel": 0}], "code": TOY}], "1 textures"),
        ([{"inputs": [], "code": TOY}, {"type": "buffer", "code": ""}], "2 passes"),
    ],
)
def test_what_cannot_be_drawn_says_so_when_it_is_compiled(
    passes: list[Any], words: str, tmp_path: Path
) -> None:
    document = {"info": {"id": "x"}, "renderpass": passes}
    (tmp_path / "a.json").write_text(json.dumps(document))
    (subject,) = shaders(tmp_path)
    assert from_text(subject.text).code.startswith(f"#error it has {words}")


def test_folders_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    with refused(UnreadablePromptsError, "no such folder of shaders"):
        shaders(tmp_path / "absent")
    with refused(UnreadablePromptsError, "no shader in it", ".frag"):
        shaders(tmp_path)
    path = tmp_path / "a.frag"
    path.write_bytes(b"\xff\xfe\x00")
    with refused(BadPromptError, "a.frag", "not a text"):
        shaders(tmp_path)
    path.write_text("x" * (MAX_BYTES + 1))
    with refused(BadPromptError, "at most 256 kB"):
        shaders(tmp_path)
    path.unlink()
    for content in (
        "{",
        "[]",
        '{"info": {}}',
        '{"info": {}, "renderpass": [{"code": 3}]}',
        '{"info": {}, "renderpass": [{"code": "", "inputs": 5}]}',
    ):
        (tmp_path / "a.json").write_text(content)
        with refused(BadPromptError, "a.json", "no shader of Shadertoy's API"):
            shaders(tmp_path)
