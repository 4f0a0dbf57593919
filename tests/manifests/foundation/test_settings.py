"""Settings: which source wins, and that hostile TOML is refused in one line and bounded memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import MAX_BYTES, MAX_DEPTH, Table, check, read_settings
from tests.running import environment
from tests.sets import refused


def settings(*overrides: str, recipe: Path | None = None, **flags: Any) -> dict[str, Any]:
    return read_settings(recipe=recipe, overrides=overrides, flags=flags)


def recipe_of(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_flag_wins_over_an_override_and_an_override_over_the_file(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "[t]\na = 1\nb = 1\nc = 1\n")
    merged = read_settings(
        recipe=recipe, overrides=["t.b=2", "t.c=2"], flags={"t.c": 3, "t.a": None}
    )
    assert merged == {"t": {"a": 1, "b": 2, "c": 3}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("[0.1, 0.2]", [0.1, 0.2]),
        ('"3"', "3"),
        ("bare words", "bare words"),
        ("1\nother = 2", "1\nother = 2"),
        ("", ""),
    ],
)
def test_an_override_is_a_toml_value_or_else_text(text: str, value: Any) -> None:
    assert settings(f"t.a={text}") == {"t": {"a": value}}


@pytest.mark.parametrize("key", ["", " ", ".", "a..b", ".a", "a.", "a. .b"])
def test_a_key_with_an_empty_part_is_refused(key: str) -> None:
    with refused(ConfigError, f"--set {key}=1: expected table.key=value"):
        settings(f"{key}=1")


def test_a_key_that_goes_through_a_value_is_refused() -> None:
    with refused(ConfigError, "--set a.b=1: a is a value, expected a table"):
        settings("a=1", "a.b=1")


DEEP = "lie more than 32 deep"
LONG = "a key of more than 32 parts"
HOSTILE_TOML = {
    "deep arrays": ("a = " + "[" * 100_000, DEEP),
    "arrays too deep for us": ("a = " + "[" * 40 + "]" * 40, DEEP),
    "deep tables": ("a = " + "{a = " * 100_000, DEEP),
    "many digits": ("a = " + "9" * 100_000, "a number cannot be read"),
    "many digits in hexadecimal": ("a = 0x" + "f" * 900_000, "more than 64 bits"),
    "a long key": (".".join("a" * 100_000) + " = 1", LONG),
    "a long key with blanks": (" . ".join("a" * 100_000) + " = 1", LONG),
    "a long quoted key": (".".join(['"\\""'] * 100_000) + " = 1", LONG),
    "a long literal key": (".".join(["'.'"] * 100_000) + " = 1", LONG),
    "a long key of empty parts": (".".join(['""'] * 100_000) + " = 1", LONG),
    "a long key in an inline table": ("a = {" + ".".join("a" * 100_000) + " = 1}", LONG),
    "a long table name": ("[" + ".".join("a" * 100_000) + "]", LONG),
    "a long name of an array of tables": ("[[" + ".".join("a" * 100_000) + "]]", LONG),
    "a long name of a key": ("a" * 100_000 + " = 1", "unknown key aaaa"),
    "a long value": ('a = "' + "x" * 900_000 + '"', "a is 'xxx"),
    "a file beyond the bound": ("#" * (MAX_BYTES + 1), "is larger than 1,000,000 bytes"),
    "words without an end": ("a" * 900_000, "not a TOML file"),
    "quotes without an end": ('"' + '\\"' * 400_000, "not a TOML file"),
    "quotes and blanks": ('" ' * 400_000, "not a TOML file"),
}


class Ints(Table):
    """One number."""

    a: int = 0


@pytest.mark.parametrize("case", HOSTILE_TOML)
def test_hostile_toml_is_refused_in_one_short_line(case: str, tmp_path: Path) -> None:
    text, words = HOSTILE_TOML[case]
    recipe = recipe_of(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        check(Ints, settings(recipe=recipe), origin=str(recipe))
    message = str(caught.value)
    assert message.startswith(f"{recipe}: ")
    assert words in message
    assert len(message.splitlines()) == 1
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("a=" + "[" * 100_000, DEEP),
        ("a=" + "9" * 100_000, "a number cannot be read"),
        (".".join("a" * 100_000) + "=1", LONG),
        ("a={" + ".".join("a" * 100_000) + "=1}", LONG),
        ("a=" + "x" * (MAX_BYTES + 1), "is longer than 1,000,000 characters"),
    ],
    ids=["deep", "digits", "key", "inline key", "long"],
)
def test_hostile_overrides_are_refused_in_one_short_line(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        settings(override)
    assert len(str(caught.value)) < 1000


def test_keys_within_the_bound_are_read(tmp_path: Path) -> None:
    key = ".".join("a" * MAX_DEPTH)
    from_file: Any = settings(recipe=recipe_of(tmp_path, f"{key} = 1"))
    assert from_file == settings(f"{key}=1")
    rates = ", ".join(["0.1"] * 100)
    assert settings(recipe=recipe_of(tmp_path, f"a = [{rates}] # 1.2")) == {"a": [0.1] * 100}


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from pathlib import Path
from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import read_settings
try:
    read_settings(recipe=Path(sys.argv[1]), overrides=[], flags={})
except ConfigError as exc:
    print(len(str(exc).splitlines()))
"""


def test_a_key_of_100_000_parts_needs_no_more_than_a_gibibyte(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, ".".join("a" * 100_000) + " = 1")
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, recipe],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout == "1\n", run.stderr


def test_a_recipe_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "folder.toml").mkdir()
    for name, words in {
        "pipe.toml": "is a pipe or a device, expected a regular file",
        "zero.toml": "is a pipe or a device, expected a regular file",
        "folder.toml": "is a folder, expected a file",
        "none.toml": "no such file",
    }.items():
        with refused(ConfigError, f"{tmp_path / name}: {words}", "give --recipe FILE.toml"):
            settings(recipe=tmp_path / name)


def test_a_recipe_that_is_a_url_is_refused_without_its_secrets() -> None:
    with pytest.raises(ConfigError, match="--recipe: is a URL") as caught:
        settings(recipe=Path("https://user:SECRET@host/recipe.toml?sig=SECRET"))
    assert "SECRET" not in str(caught.value)
