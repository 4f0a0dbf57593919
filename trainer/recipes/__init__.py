"""Recipes of this package, and how one recipe extends another.

`--recipe NAME` takes the file NAME.toml of this folder, unless there is a file of that name in the
working directory. A recipe that has `extends = "NAME"` at its top holds only what differs from that
other recipe.
"""

import os
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import shortened
from manifests.foundation.plugins import did_you_mean
from manifests.foundation.settings import read_settings

FOLDER = Path(__file__).parent
EXTENDS = "extends"


def find_recipe(name: str) -> Path:
    """The file of a recipe.

    Args:
        name: A path, or the name of a recipe of this folder. Example: "demo".

    Returns:
        The path. A path that ends in .toml is not checked here; reading it will say what is wrong.

    Raises:
        ConfigError: Neither a file nor the name of a recipe of this package.
    """
    path = Path(name)
    if path.suffix == ".toml" or os.path.isfile(path):
        return path
    shipped = shipped_recipes()
    if name not in shipped:
        raise ConfigError(
            f"--recipe {shortened(name)}: no such file, and the recipes of this package are "
            f"{', '.join(shipped)}"
            f"{did_you_mean(name, shipped)}"
        )
    return shipped[name]


def shipped_recipes() -> dict[str, Path]:
    """The recipes of this package by name, in their order."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.toml"))}


def headline(path: Path) -> str:
    """What a recipe is: the first paragraph of the comment that it begins with."""
    lines = path.read_text("utf-8").splitlines()
    paragraph = takewhile(lambda line: line.strip("# "), lines)
    return " ".join(line.strip("# ") for line in paragraph)


def read_recipe(path: Path) -> dict[str, Any]:
    """The tables of a recipe over those of the recipe that it extends, as one tree.

    Its keys and values are not checked yet.

    Raises:
        ConfigError: A file is missing or not TOML, or the recipes extend each other in a circle.
    """
    return _read(path, ())


def _read(path: Path, readers: tuple[Path, ...]) -> dict[str, Any]:
    """`read_recipe`, with the files that extend this one, directly or not, in `readers`."""
    chain = (*readers, path.resolve())
    if path.resolve() in readers:
        names = " -> ".join(file.stem for file in chain)
        raise ConfigError(f"{path}: the recipes extend each other in a circle, {names}")
    tree = read_settings(recipe=path, overrides=(), flags={})
    if EXTENDS not in tree:
        return tree
    base = tree.pop(EXTENDS)
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends is {base!r}, expected the name of a recipe")
    return merged(_read(_base(path, base), chain), tree, origin=str(path))


def _base(path: Path, name: str) -> Path:
    """The file of the recipe that another one extends: beside it, or in this folder."""
    beside = path.parent / name
    if beside.is_file():
        return beside
    if beside.suffix == ".toml":
        raise ConfigError(f"{path}: extends = {name!r}, and there is no such file beside it")
    try:
        return find_recipe(name)
    except ConfigError as exc:
        raise ConfigError(f"{path}: extends = {name!r} ({exc})") from exc


def merged(
    below: Mapping[str, Any], above: Mapping[str, Any], *, origin: str, key: str = ""
) -> dict[str, Any]:
    """Two trees of tables as one; a value of `above` replaces that of `below`.

    Raises:
        ConfigError: A key is a table in one of them and a value in the other; names `origin`.
    """
    tree = dict(below)
    for name, value in above.items():
        path = f"{key}.{name}".lstrip(".")
        old = tree.get(name)
        if name in tree and isinstance(old, Mapping) != isinstance(value, Mapping):
            kinds = ("a table", "a value") if isinstance(old, Mapping) else ("a value", "a table")
            raise ConfigError(f"{origin}: {path} is {kinds[1]}, expected {kinds[0]}")
        if isinstance(old, Mapping):
            tree[name] = merged(old, value, origin=origin, key=path)
        else:
            tree[name] = value
    return tree
