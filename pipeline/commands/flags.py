"""Flags that set keys of the recipe of `synth generate`, and options of several commands."""

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


def values_by_key(flags: dict[str, Any]) -> dict[str, Any]:
    """Values of flags of the running command, by the key that each of them sets."""
    command = click.get_current_context().command
    return {key: flags[name] for name, key in keys_of_flags(command).items()}


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


def execution_flags(command: Any) -> Any:
    """Decorate a command that renders with the flags of what runs the workers."""
    return _decorated(
        command,
        flag(
            "--executor", "execution.executor", type=ExecutorName(), help="What runs the workers."
        ),
        flag(
            "--workers",
            "execution.workers",
            type=int,
            help="Number of workers. If not given, one for each GPU, or for each core.",
        ),
        flag("--ray-address", "execution.ray_address", help="local, auto or HOST:PORT."),
    )


def making_options(command: Any) -> Any:
    """Decorate a command that makes a set with what says how far it goes."""
    return _decorated(
        command,
        click.option(
            "--max-failed",
            type=click.FloatRange(0, 1),
            default=1.0,
            show_default=True,
            help="Share of all views that may fail before the run ends, 0 to 1.",
        ),
        click.option(
            "--share",
            metavar="K/N",
            help="Make one of N parts of the set alone, such as 3/64; N commands make all of it.",
        ),
        click.option(
            "--retry-failed", is_flag=True, help="Try the shards again that were given up."
        ),
        click.option(
            "--seal-incomplete",
            is_flag=True,
            help="Seal although shards are missing; the seal names them.",
        ),
    )


def _decorated(command: Any, *options: Callable[[Any], Any]) -> Any:
    for option in reversed(options):  # as if they stood above the command, one on each line
        command = option(command)
    return command
