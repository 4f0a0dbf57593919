"""What a user sets, for both programs: TOML tables, `--set` overrides, flags, in this order."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.foundation.errors import ConfigError
from manifests.foundation.plugins import did_you_mean


class Table(BaseModel):
    """A table of a recipe: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def read_settings(
    *, recipe: Path | None, overrides: Sequence[str], flags: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge file, overrides and flags; not checked yet.

    Args:
        recipe: TOML file, or None.
        overrides: `a.b=value` with a TOML value (bare words are text).
        flags: Dotted key to value; None is not given.

    Raises:
        ConfigError: No such file, not TOML, or a key that goes through a value.
    """
    tree: dict[str, Any] = {}
    if recipe is not None:
        try:
            tree = tomllib.loads(recipe.read_text("utf-8"))
        except FileNotFoundError as exc:
            raise ConfigError(f"{recipe}: no such file; give --recipe FILE.toml") from exc
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise ConfigError(f"{recipe}: not a TOML file ({exc})") from exc
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {override}: expected table.key=value")
        _put(tree, key.strip(), _toml_value(text.strip()), f"--set {override}")
    for key, value in flags.items():
        if value is not None:
            _put(tree, key, value, f"--{key}")
    return tree


Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], values: Mapping[str, Any], *, origin: str, table: str = "") -> Model:
    """Values as a model; the first error as one line that names the key and the nearest one.

    Raises:
        ConfigError: An unknown key or a wrong type; names origin, key and nearest name.
    """
    try:
        return model.model_validate(_tuples(values))
    except ValidationError as exc:
        raise ConfigError(_explain(exc, model, origin, table)) from exc


def _tuples(value: Any) -> Any:
    """TOML's arrays as tuples: frozen, as the tables are."""
    if isinstance(value, Mapping):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _explain(exc: ValidationError, model: type[BaseModel], origin: str, table: str) -> str:
    error = exc.errors()[0]
    path = [table] if table else []
    known: Mapping[str, Any] = model.model_fields
    for step in error["loc"][:-1]:
        inner = known.get(str(step))
        annotation = getattr(inner, "annotation", None)
        known = getattr(annotation, "model_fields", {})
    path += [str(step) for step in error["loc"] if not str(step).startswith("literal[")]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        return f"{origin}: unknown key {key}{did_you_mean(name, known)}; known: {', '.join(known)}"
    told = error["msg"].removeprefix("Value error, ")
    told = f"{told[0].lower()}{told[1:]}"
    if not key:
        return f"{origin}: {told}"
    return f"{origin}: {key} is {error['input']!r}: {told}"


def _put(tree: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *tables, name = key.split(".")
    node = tree
    for table in tables:
        node = node.setdefault(table, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{origin}: {table} is a value, expected a table")
    node[name] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
