"""The recipe a user writes: TOML tables, `--set` overrides, flags, in this order of strength."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.encoding import ImageConfig
from pipeline.errors import ConfigError
from pipeline.plugins import did_you_mean


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PromptsConfig(_Table):
    """Table [prompts]."""

    file: str
    """Path or URL of the captions."""
    caption_column: str = "caption"


class ViewsConfig(_Table):
    """Table [views]."""

    per_prompt: int = Field(default=10, ge=1, le=1000)
    guidance: tuple[float, ...] = Field(default=(2.0,), min_length=1)
    """View v is rendered at guidance[v mod len]; the length divides per_prompt."""
    seed: int = Field(default=0, ge=0, lt=2**63)


class ShardsConfig(_Table):
    """Table [shards]."""

    prompts: int = Field(default=100, ge=1, le=10_000)
    """Prompts in one shard."""


class ExecutionConfig(_Table):
    """Table [execution]. Nothing here changes a byte of the set."""

    executor: str = "ray"
    workers: int | None = Field(default=None, ge=1)
    ray_address: str = "local"


class GenerateConfig(_Table):
    """A whole recipe."""

    prompts: PromptsConfig
    views: ViewsConfig = ViewsConfig()
    renderer: dict[str, Any] = {"name": "text-to-image"}
    """Checked by the renderer's own Config."""
    image: ImageConfig = ImageConfig()
    shards: ShardsConfig = ShardsConfig()
    execution: ExecutionConfig = ExecutionConfig()


def load_config(
    *, recipe: Path | None, overrides: Sequence[str], flags: Mapping[str, Any]
) -> GenerateConfig:
    """Merge file, overrides and flags, and check the whole.

    Args:
        recipe: TOML file, or None.
        overrides: `a.b=value` with a TOML value (bare words are text).
        flags: Dotted key to value; None is not given.

    Raises:
        ConfigError: Not TOML, an unknown key, a wrong type; names file, key and nearest name.
    """
    tree: dict[str, Any] = {}
    origin = "recipe"
    if recipe is not None:
        origin = str(recipe)
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
    views = tree.get("views")
    if isinstance(views, dict) and isinstance(views.get("guidance"), list):
        views["guidance"] = tuple(views["guidance"])
    if isinstance(views, dict) and isinstance(views.get("guidance"), int | float):
        views["guidance"] = (views["guidance"],)
    if not isinstance(tree.get("prompts"), dict) or "file" not in tree["prompts"]:
        raise ConfigError(f"{origin}: no prompts; give --prompts FILE, or file in table [prompts]")
    config = check(GenerateConfig, tree, origin=origin)
    renderer = {"name": "text-to-image"} | config.renderer
    return config.model_copy(update={"renderer": renderer})


Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], values: Mapping[str, Any], *, origin: str, table: str = "") -> Model:
    """Values as a model; the first error as one line that names the key and the nearest one."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as exc:
        raise ConfigError(_explain(exc, model, origin, table)) from exc


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
    return f"{origin}: {key} is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


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
