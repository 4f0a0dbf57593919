"""A group of a set is found by its text or its number, and shown with all its views."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from manifests.errors import ContractError
from pipeline.showing import find_group, side_by_side
from synth import main
from tests.sets import make_set, refused

PNG = b"\x89PNG\r\n"
FLAT = np.full((8, 8, 3), 120, dtype=np.uint8)


def run(*arguments: object, columns: int = 200) -> Result:
    environment = {"COLUMNS": str(columns)}
    return CliRunner(env=environment).invoke(main, [str(argument) for argument in arguments])


CAPTIONS = ("a fox [/red] and a hen", "a \x1b[31mred\u202e door", "two foxes", "a Red Fox", "7")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_set(tmp_path / "set", captions=CAPTIONS)
    return tmp_path / "set"


def test_show_finds_a_group_by_its_number_and_by_its_text(folder: Path) -> None:
    for name in ("0", "[/red]", "a fox [/red] and a hen", "AND A HEN"):
        result = run("show", folder, name)
        assert result.exit_code == 0, result.output
        assert CAPTIONS[0] in result.output
        assert "000000000_001" in result.output
        assert "000000001_000" not in result.output


def test_show_prefers_the_whole_text_to_a_part(tmp_path: Path) -> None:
    shards = make_set(tmp_path, captions=("a fox and a hen", "a fox"))
    assert find_group(shards, "a  fox") == 1
    assert find_group(shards, "fox and") == 0


def test_show_names_the_groups_that_share_a_text(tmp_path: Path) -> None:
    shards = make_set(tmp_path, captions=CAPTIONS)
    with refused(ContractError, "3 groups", "0 (a fox [/red] and a hen), 2 (two foxes), 3 (a Red"):
        find_group(shards, "fox")
    with refused(ContractError, "no group has 'owl' in its text"):
        find_group(shards, "owl")
    with refused(ContractError, "no group 5; it has groups 0 to 4"):
        find_group(shards, "5")


def test_show_of_a_group_passes_no_code_to_the_terminal(folder: Path) -> None:
    result = run("show", folder, "1", columns=40)
    assert result.exit_code == 0, result.output
    assert r"a \x1b[31mred\u202e door" in result.output
    assert "000000001_001" in result.output
    assert "blank" in result.output
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output


def test_show_draws_a_group_to_a_file(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "group.png"
    assert run("show", folder, "1", "--out", out).exit_code == 0
    assert out.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    "arguments", [("000000001_000", "--out", "x.png"), ("1", "--save", "x.png"), ("1", "--render")]
)
def test_show_refuses_what_is_for_a_view_or_for_a_group(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    result = run("show", folder, *arguments)
    assert result.exit_code == 2
    assert "view" in result.output


@pytest.mark.parametrize("width", [10, 40, 200])
def test_views_stand_side_by_side_in_the_width_of_the_terminal(width: int) -> None:
    text = side_by_side([FLAT, "blank", FLAT], ["0_0", "0_1", "0_2"], width=width)
    assert max(len(line) for line in text.plain.splitlines()) <= max(width, 11)
    assert "blank" in text.plain
    assert text.plain.count("\u2580") == 2 * 8 * 4
