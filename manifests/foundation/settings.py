"""Settings of both programs: a TOML file, `--set` overrides, flags; the later ones win."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import read_regular
from manifests.foundation.messages import hide, one_line, shortened
from manifests.foundation.plugins import did_you_mean

MAX_BYTES = 1_000_000
"""Largest recipe, and longest value of `--set`."""
MAX_DEPTH = 32
"""Most tables and arrays inside each other, and most parts of a dotted key."""

_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
# Python's TOML parser needs memory that grows with the square of the number of parts of a key, so
# long keys are refused before it runs. The quantifiers are possessive: without backtracking the
# search itself takes linear time.
_LONG_KEY = re.compile(
    rf"(?:^|(?<=[\s\[{{,])){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_DEPTH}}}", re.MULTILINE
)


class Table(BaseModel):
    """A table of a recipe: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def read_settings(
    *, recipe: Path | None, overrides: Sequence[str], flags: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge the file, the overrides and the flags. `check` compares the result with a model.

    Args:
        recipe: TOML file, or None.
        overrides: `table.key=value` with a TOML value; what is no TOML value is taken as text.
        flags: Value by dotted key; None means that the user did not give the flag.

    Returns:
        Nested tables. Example: the override `image.size_px=256` gives {"image": {"size_px": 256}}.

    Raises:
        ConfigError: The file is missing or is not TOML, the file or an override exceeds MAX_BYTES
            or MAX_DEPTH, or a dotted key takes a plain value for a table.
    """
    tree = {} if recipe is None else _read_recipe(recipe)
    for override in overrides:
        origin = f"--set {shortened(override)}"
        key, equals, text = override.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise ConfigError(f"{origin}: expected table.key=value")
        _put(tree, key.strip(), _toml_value(text.strip(), origin), origin)
    for key, value in flags.items():
        if value is not None:
            _put(tree, key, value, f"--{key}")
    return tree


def _read_recipe(recipe: Path) -> dict[str, Any]:
    # The message does not repeat the URL: `Path` has changed it, so that its secrets might no
    # longer be recognised.
    if re.search(r"[A-Za-z][\w+.-]+:/", str(recipe)):
        raise ConfigError("--recipe: is a URL, expected the path of a TOML file on this machine")
    try:
        text = read_regular(recipe, max_bytes=MAX_BYTES).decode()
        hide(text)
        return _parse(text, str(recipe))
    except FileNotFoundError as exc:
        raise ConfigError(f"{recipe}: no such file; give --recipe FILE.toml") from exc
    except OSError as exc:
        raise ConfigError(f"{recipe}: {exc.strerror}; give --recipe FILE.toml") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{recipe}: not a TOML file ({one_line(exc)})") from exc


def _parse(text: str, origin: str) -> dict[str, Any]:
    """Parse TOML in bounded time and memory.

    Raises:
        ConfigError: The text exceeds a bound.
        TOMLDecodeError: The text is not TOML.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{origin}: is longer than {MAX_BYTES:,} characters; shorten it")
    if _LONG_KEY.search(text):
        raise ConfigError(f"{origin}: a key of more than {MAX_DEPTH} parts; shorten it")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # a ValueError, too
        raise
    except RecursionError as exc:
        raise ConfigError(f"{origin}: {_TOO_DEEP}") from exc
    except ValueError as exc:  # an integer of thousands of digits
        raise ConfigError(f"{origin}: a number cannot be read ({one_line(exc)})") from exc


_TOO_DEEP = f"tables and arrays lie more than {MAX_DEPTH} deep inside each other; flatten them"


Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], values: Mapping[str, Any], *, origin: str, table: str = "") -> Model:
    """Make a model of values that a user or a file gave.

    Args:
        model: The table that the values must fit.
        values: What the TOML or JSON parser returned.
        origin: File or option that they come from, for messages.
        table: Name of the table in the recipe, for messages.

    Raises:
        ConfigError: An unknown key, a wrong type, tables more than MAX_DEPTH deep, or an integer
            of more than 64 bits. The message names the origin, the first wrong key, and the nearest
            known name.
    """
    try:
        return model.model_validate(_tuples(values, origin, MAX_DEPTH))
    except ValidationError as exc:
        raise ConfigError(_explain(exc, model, origin, table)) from exc


def _tuples(value: Any, origin: str, depth: int) -> Any:
    """The same values with tuples for lists, because the models are frozen.

    Raises:
        ConfigError: An integer of more than 64 bits, or more than `depth` values inside each other.
    """
    if isinstance(value, int) and value.bit_length() > 64:
        raise ConfigError(f"{origin}: a whole number of more than 64 bits, expected a smaller one")
    if not isinstance(value, Mapping | list):
        return value
    if not depth:
        raise ConfigError(f"{origin}: {_TOO_DEEP}")
    if isinstance(value, Mapping):
        return {key: _tuples(inner, origin, depth - 1) for key, inner in value.items()}
    return tuple(_tuples(inner, origin, depth - 1) for inner in value)


def _explain(exc: ValidationError, model: type[BaseModel], origin: str, table: str) -> str:
    """The first error as one line. `loc` is its path: keys, indices, and branches of unions."""
    error = exc.errors()[0]
    path = [table] if table else []
    # Down to the innermost table, whose keys are the ones to suggest.
    known: Mapping[str, Any] = model.model_fields
    for step in error["loc"][:-1]:
        inner = known.get(str(step))
        annotation = getattr(inner, "annotation", None)
        known = getattr(annotation, "model_fields", {})
    # A branch of a union such as `literal['auto']` is no key that a user could look for.
    path += [str(step) for step in error["loc"] if not str(step).startswith("literal[")]
    key = shortened(".".join(path)) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        return f"{origin}: unknown key {key}{did_you_mean(name, known)}; known: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{origin}: {key} is not given; give it in the recipe or with --set {key}=..."
    reason = error["msg"].removeprefix("Value error, ")
    reason = f"{reason[0].lower()}{reason[1:]}"
    if not key:
        return f"{origin}: {reason}"
    return f"{origin}: {key} is {shortened(repr(error['input']))}: {reason}"


def _put(tree: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *tables, name = key.split(".")
    if len(tables) >= MAX_DEPTH:
        raise ConfigError(f"{origin}: a key of more than {MAX_DEPTH} parts; shorten it")
    node = tree
    for table in tables:
        node = node.setdefault(table, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{origin}: {table} is a value, expected a table")
    node[name] = value


def _toml_value(text: str, origin: str) -> Any:
    """The text as a TOML value; the text itself if it is none."""
    try:
        tree = _parse(f"value = {text}", origin)
    except tomllib.TOMLDecodeError:
        return text
    return tree["value"] if len(tree) == 1 else text  # after a line end, more keys may follow
