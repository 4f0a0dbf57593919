"""Flags that set keys of the recipe of `synth generate`."""

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
        record = super().get_help_record(ctx)
        return with_default(record, "pipeline.commented:default_of", self.key)


def flag(name: str, key: str, **settings: Any) -> Callable[[Any], Any]:
    """Decorate a command with an option that sets a key of its recipe.

    Args:
        name: Of the option. Example: `--views-per-subject`.
        key: Of the recipe. Example: `views.per_subject`.
        settings: As for `click.option`.
    """
    return click.option(name, cls=_Flag, key=key, **settings)


def keys_of_flags(command: click.Command) -> dict[str, str]:
    """The key of the recipe that each parameter of a command sets, by name of the parameter."""
    return {str(one.name): one.key for one in command.params if isinstance(one, _Flag)}


class ExecutorName(click.ParamType[str]):
    """Name of an executor, or a dotted path `package.module:Class`."""

    name = "executor"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        try:
            names = self._names()
        except ModuleNotFoundError:
            return "NAME"  # an extra is not installed: the command says which, if it is run
        return f"[{'|'.join(names)}|MODULE:CLASS]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from manifests.foundation.plugins import did_you_mean

        name, names = str(value), self._names()
        if name not in names and ":" not in name:
            hint = did_you_mean(name, names)
            self.fail(
                f"{name!r} is not one of {', '.join(names)} or MODULE:CLASS{hint}", param, ctx
            )
        return name

    @staticmethod
    def _names() -> list[str]:
        from pipeline.execution import EXECUTORS

        return list(EXECUTORS)
