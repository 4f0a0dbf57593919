"""The recipe of a shard set as a user writes it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import Table, check, read_settings
from pipeline.encoding import ImageConfig


class PromptsConfig(Table):
    """Table [prompts]."""

    file: str
    """Path or URL of the captions."""
    caption_column: str = "caption"


class ViewsConfig(Table):
    """Table [views]."""

    per_prompt: int = Field(default=10, ge=1, le=1000)
    guidance: tuple[float, ...] = Field(default=(2.0,), min_length=1)
    """View v is rendered at guidance[v mod len]; the length divides per_prompt."""
    seed: int = Field(default=0, ge=0, lt=2**63)


class ShardsConfig(Table):
    """Table [shards]."""

    prompts: int = Field(default=100, ge=1, le=10_000)
    """Prompts in one shard."""


class ExecutionConfig(Table):
    """Table [execution]. Nothing here changes a byte of the set."""

    executor: str = "ray"
    workers: int | None = Field(default=None, ge=1)
    ray_address: str = "local"


class GenerateConfig(Table):
    """A whole recipe."""

    prompts: PromptsConfig
    views: ViewsConfig = ViewsConfig()
    renderer: dict[str, Any] = Field(default={"name": "text-to-image"})
    """Checked by the renderer's own Config."""
    image: ImageConfig = ImageConfig()
    shards: ShardsConfig = ShardsConfig()
    execution: ExecutionConfig = ExecutionConfig()


def load_config(
    *, recipe: Path | None, overrides: Sequence[str], flags: Mapping[str, Any]
) -> GenerateConfig:
    """Merge file, overrides and flags, and check the whole; arguments as of `read_settings`.

    Raises:
        ConfigError: Not TOML, an unknown key, a wrong type; names file, key and nearest name.
    """
    tree = read_settings(recipe=recipe, overrides=overrides, flags=flags)
    origin = str(recipe or "recipe")
    views = tree.get("views")
    if isinstance(views, dict) and isinstance(views.get("guidance"), int | float):
        views["guidance"] = (views["guidance"],)
    if not isinstance(tree.get("prompts"), dict) or "file" not in tree["prompts"]:
        raise ConfigError(f"{origin}: no prompts; give --prompts FILE, or file in table [prompts]")
    config = check(GenerateConfig, tree, origin=origin)
    renderer = {"name": "text-to-image"} | config.renderer
    return config.model_copy(update={"renderer": renderer})
