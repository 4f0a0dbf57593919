"""Recipes that are shipped: `--recipe NAME` without a path takes one of these."""

from pathlib import Path

from manifests.foundation.errors import ConfigError
from manifests.foundation.plugins import did_you_mean

FOLDER = Path(__file__).parent


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one in this folder.

    Raises:
        ConfigError: A bare name that no shipped recipe has.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        return path
    shipped = {each.stem: each for each in sorted(FOLDER.glob("*.toml"))}
    if name not in shipped:
        raise ConfigError(
            f"--recipe {name}: no such file, and shipped are {', '.join(shipped)}"
            f"{did_you_mean(name, shipped)}"
        )
    return shipped[name]
