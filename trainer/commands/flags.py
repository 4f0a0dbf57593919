"""Flags that set keys of the recipe of `synth train`."""

from collections.abc import Callable
from typing import Any

import click

from manifests.foundation.stated_defaults import with_default


class _Flag(click.Option):
    """An option that sets a key of the recipe; its help says that key's default."""

    def __init__(self, *names: Any, key: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.key = key

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return with_default(super().get_help_record(ctx), "trainer.config:default_of", self.key)


def flag(name: str, key: str, **settings: Any) -> Callable[[Any], Any]:
    """Decorate a command with an option that sets a key of its recipe.

    Args:
        name: Of the option. Example: `--batch-groups`.
        key: Of the recipe. Example: `batch.groups`.
        settings: As for `click.option`.
    """
    return click.option(name, cls=_Flag, key=key, **settings)


def keys_of_flags(command: click.Command) -> dict[str, str]:
    """The key of the recipe that each parameter of a command sets, by name of the parameter."""
    return {str(one.name): one.key for one in command.params if isinstance(one, _Flag)}
