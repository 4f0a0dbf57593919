"""The recipe of a shard set as a user writes it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from manifests.foundation.settings import Table, check, read_settings
from manifests.schema import MAX_VIEWS_PER_SUBJECT
from pipeline.encoding import ImageConfig

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "prompts": {"source": "file"},
    "renderer": {"name": "text-to-image"},
    "audits": {"use": ("non-finite", "blank")},
    "execution": {"executor": "ray"},
}
"""What the tables name that are checked by plug-ins, where a recipe names nothing."""


class ViewsConfig(Table):
    """Table [views]."""

    per_subject: int = Field(default=10, ge=1, le=MAX_VIEWS_PER_SUBJECT)
    """Views of each subject; a multiple of the number of variations that the renderer deals."""
    paired: bool = False
    """Whether the variations of one draw share its seed, so that only the variation differs."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the whole set; the seed of each view is derived from it."""


class ShardsConfig(Table):
    """Table [shards]."""

    subjects: int = Field(default=100, ge=1, le=10_000)
    """Subjects in one shard."""


class GenerateConfig(Table):
    """A whole recipe. The tables that name a plug-in are checked by that plug-in's own Config."""

    prompts: dict[str, Any] = Field(default={})
    """`source` names the prompt source; the other keys are its settings."""
    views: ViewsConfig = ViewsConfig()
    renderer: dict[str, Any] = Field(default={})
    """`name` names the renderer; the other keys are its settings."""
    image: ImageConfig = ImageConfig()
    audits: dict[str, Any] = Field(default={})
    """`use` lists the audits by name, in the order in which they judge; each may have a table."""
    shards: ShardsConfig = ShardsConfig()
    execution: dict[str, Any] = Field(default={})
    """`executor` names the executor. Nothing here changes a byte of a set."""


def load_config(
    *, recipe: Path | None, overrides: Sequence[str], flags: Mapping[str, Any]
) -> GenerateConfig:
    """Merge file, overrides and flags, and check the result; the arguments are those of
    `manifests.foundation.settings.read_settings`.

    Raises:
        ConfigError: Not TOML, an unknown key, or a wrong type. The message names the file, the key
            and the nearest known name.
    """
    tree = read_settings(recipe=recipe, overrides=overrides, flags=flags)
    config = check(GenerateConfig, tree, origin=str(recipe or "recipe"))
    # Defaults are put in after the check, and key by key: a default table in the model would be
    # replaced as a whole by the user's table.
    return config.model_copy(
        update={table: {**given, **getattr(config, table)} for table, given in DEFAULTS.items()}
    )
