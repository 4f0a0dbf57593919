"""Image programs: what is a program, what it draws, and what is refused."""

from hashlib import sha256

import numpy as np
import pytest
import torch

from manifests.ids import canonical_text
from pipeline.renderers.image_programs import ImagePrograms, ImageProgramsConfig
from pipeline.renderers.image_programs.drawing import Viewport, draw, read_program
from pipeline.renderers.image_programs.functions import FUNCTIONS, SIGNATURES
from pipeline.renderers.image_programs.language import (
    MAX_CHARACTERS,
    MAX_STATEMENTS,
    Call,
    Name,
    Number,
    Program,
    ProgramError,
    parse,
)
from pipeline.renderers.image_programs.textures import NAMES, texture
from prompts.programs.accepted import ACCEPTED_FILE
from prompts.programs.grammar import write_program
from tests.sets import refused

CPU = torch.device("cpu")
HERE = Viewport(time=2.0, x=0.25, y=-0.5, zoom=1.5)


def pixels(text: str, *viewports: Viewport, size_px: int = 8) -> np.ndarray:
    drawn, finite = draw(read_program(text), viewports or (HERE,), size_px, CPU)
    assert bool(finite.all())
    return drawn.numpy()


def test_a_program_becomes_a_tree() -> None:
    program = parse("f = -x(p) + 2\nc = hue(f, 1, t)", SIGNATURES)
    negative = Call("multiply", (Number(-1.0), Call("x", (Name("p"),))))
    assert program == Program(
        statements=(
            ("f", Call("add", (negative, Number(2.0)))),
            ("c", Call("hue", (Name("f"), Number(1.0), Name("t")))),
        )
    )


def test_one_line_and_many_are_one_program() -> None:
    text = write_program(7)
    assert canonical_text(text) == text
    assert parse(text, SIGNATURES) == parse(text.replace("; ", "\n"), SIGNATURES)


@pytest.mark.parametrize(
    ("text", "words"),
    {
        "": "0 statements, expected 1 to 40",
        "c = hue(1, 1": "never closed",
        "import os": "statement 1, column 1: expected NAME = EXPRESSION",
        "c = exit(t)": "no function exit",
        "c = p.real": "statement 1, column 5: Attribute is not of this language",
        "c = (lambda: 1)()": "Call is not of this language",
        "c = [1]": "List is not of this language",
        "c = x(p)(1)": "Call is not of this language",
        "c = x(p=p)": "Call is not of this language",
        "c = 2 ** 3": "BinOp is not of this language",
        "c = 1 / 2": "BinOp is not of this language",
        "f = fbm(p)\nc = ramp(g, 'ff0000 00ff00')": "statement 2, column 10: g has no value yet",
        "f = fbm(p); c = ramp(g, 'ff0000 00ff00')": "statement 2, column 10: g has no value yet",
        "f = fbm(p)\nc = ramp(f,, f)": "program, statement 2: ",
        "p = 3": "p is taken",
        "fbm = 3": "fbm is taken",
        "c = x(p)": "the last statement is a number, expected a colour",
        "c = fbm(t)": "fbm takes point, and is given number",
        "c = fbm()": "fbm takes point, and is given nothing",
        "c = p * p": "multiply does not take point and point",
        "c = p + 1": "add does not take point and number",
        "c = 1e9": "a number is beyond 10000",
        "c = 1e999": "a number is beyond 10000",
        "c = 1" + "0" * 400: "a number is beyond 10000",
        "c = add(t)": "no function add",
        "c = " + "-" * 200 + "x(p)": "more than 50 calls inside each other",
        "c = True": "True is no number",
        "c = 'ff0000'": "1 colours, expected 2 to 16",
        "c = ramp(t, 'red blue')": "'red' is no colour",
        "c = 'ff0000 00ff00'": "a text of colours belongs into a call of ramp",
        "c = 1\n" * (MAX_STATEMENTS + 1): "41 statements",
        "c = 1 + " * (MAX_CHARACTERS // 8 + 1) + "1": "characters, at most 4,000",
        "c = " + "+".join(["1"] * 600): "parts, at most 1000",
        "c = " + "(" * 500 + "1" + ")" * 500: "program",
        "c = \0": "program",
    }.items(),
)
def test_what_is_no_program_is_refused_in_one_line(text: str, words: str) -> None:
    with refused(ProgramError, words):
        parse(text, SIGNATURES)


def test_pixels_are_those_of_the_formula() -> None:
    place = (np.arange(8) + 0.5) / 4 - 1
    x, y = place[None] * 1.5 + 0.25, -place[:, None] * 1.5 - 0.5
    field = np.sin(2.0 * x) * y + 0.5
    expected = np.rint(
        np.stack([field, 0.25 * x + 0 * y, 0.1 * 2 + 0 * field], -1).clip(0, 1) * 255
    )
    text = """
        f = sin(2 * x(p)) * y(p) + 0.5
        red = hue(0, 1, f)
        green = hue(1 - 0.6666667, 1, 0.25 * x(p))
        blue = hue(0.6666667, 1, 0.1 * t)
        c = red + green + blue
    """.strip().replace("        ", "")
    np.testing.assert_allclose(pixels(text)[0].astype(int), expected, atol=1)


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_every_function_draws_something_finite_that_depends_on_its_arguments(name: str) -> None:
    takes, gives = SIGNATURES[name].takes, SIGNATURES[name].gives
    numbers = iter(("0.4", "1.1", "0.6") if "point" in takes else ("x(p)", "0.9", "y(p)"))
    others = {"point": "p", "colour": "hue(x(p), 1, 1)", "colours": "'ff0000 00ff00'"}
    call = f"{name}({', '.join(others.get(kind) or next(numbers) for kind in takes)})"
    shown = {
        "point": f"q = {call}; c = hue(0.3 * x(q) + 0.2 * y(q), 1, 1)",
        "number": f"c = ramp(0.9 * {call}, 'ff0000 0000ff ffffff')",
        "colour": f"c = {call}",
    }[gives]
    (picture,) = pixels(shown, size_px=32)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1
    assert FUNCTIONS[name].__doc__


def test_views_of_a_program_do_not_depend_on_their_neighbours() -> None:
    viewports = [Viewport(time=time, x=0, y=0.1, zoom=1) for time in (0.5, 3.0, 9.0)]
    for index in range(40):
        text = write_program(index)
        together = pixels(text, *viewports, size_px=16)
        for number, viewport in enumerate(viewports):
            np.testing.assert_array_equal(pixels(text, viewport, size_px=16)[0], together[number])


def test_views_at_another_time_and_place_differ() -> None:
    changed = 0
    for index in range(40):
        one, other = pixels(write_program(index), HERE, Viewport(time=5.0, x=-1, y=1, zoom=1))
        changed += bool((one != other).any())
    assert changed == 40


def test_every_integer_is_a_program_of_its_own() -> None:
    texts = [write_program(index) for index in range(2000)]
    assert len(set(texts)) == 2000
    for text in texts:
        parse(text, SIGNATURES)
    assert max(map(len, texts)) < MAX_CHARACTERS


def test_programs_of_integers_never_change() -> None:
    """A new grammar has a new version: sets name their programs by number and text."""
    texts = "\n".join(write_program(index) for index in range(1000))
    assert sha256(texts.encode()).hexdigest() == (
        "724eb7936765a0645672bb963eb60d4e1da1ea62fc3ffe75795784c736c01620"
    )


@pytest.mark.parametrize("name", NAMES)
def test_textures_repeat_and_fill_their_range(name: str) -> None:
    values = texture(name, "cpu")[0, 0]
    assert torch.equal(values[0], values[-1])
    assert torch.equal(values[:, 0], values[:, -1])
    assert (float(values.min()), float(values.max())) == (0, 1)
    assert 0.1 < float(values.std()) < 0.4


def test_mixed_views_are_of_the_programs_that_are_carried() -> None:
    """Another list of programs mixes other ones in, so it is another identity."""
    alone, mixed = (
        ImagePrograms(ImageProgramsConfig(mix=mix, device="cpu")).identity()
        for mix in ((1,), (1, 6))
    )
    assert "others" not in alone
    assert mixed["others"]["accepted"] == sha256(ACCEPTED_FILE.read_bytes()).hexdigest()


def test_non_finite_views_are_marked() -> None:
    huge = "q = stretch(p, 9999, 9999); " + "q = stretch(q, 9999, 9999); " * 10
    _, finite = draw(read_program(f"{huge}c = hue(x(q) - x(q), 1, 1)"), [HERE], 8, CPU)
    assert finite.tolist() == [False]
