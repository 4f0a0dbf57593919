"""The front door: one command line over two programs that do not know each other.

It names both halves and imports neither: a command is loaded when it is used.
"""

import io
import os
import sys
import traceback
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from difflib import get_close_matches
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from shutil import get_terminal_size
from typing import Any

import click

GROUPS = {
    "Make a set": {
        "init": "pipeline.commands.init:init",
        "plan": "pipeline.commands.plan:plan",
        "preview": "pipeline.commands.preview:preview",
        "generate": "pipeline.commands.generate:generate",
    },
    "Change and copy sets": {
        "grow": "pipeline.commands.grow:grow",
        "merge": "pipeline.commands.merge:merge",
        "split": "pipeline.commands.split:split",
        "publish": "pipeline.commands.publish:publish",
        "gc": "pipeline.commands.gc:gc",
        "delete": "pipeline.commands.delete:delete",
    },
    "Inspect a set": {
        "status": "pipeline.commands.status:status",
        "verify": "pipeline.commands.verify:verify",
        "show": "pipeline.commands.show:show",
        "report": "pipeline.commands.report:report",
    },
    "Learn from a set": {
        "recipes": "trainer.commands.recipes:recipes",
        "train": "trainer.commands.train:train",
        "evaluate": "trainer.commands.evaluate:evaluate",
        "export": "trainer.commands.export:export",
    },
    "Try": {
        "demo": "pipeline.commands.demo:demo",
        "doctor": "pipeline.commands.doctor:doctor",
        "steer": "pipeline.commands.steer:steer",
        "pictograms": "pipeline.commands.pictograms:pictograms",
    },
}
"""Verbs as `synth --help` groups them, and where the command of each is. A new verb is one line."""

COMMANDS = {name: path for group in GROUPS.values() for name, path in group.items()}

_PACKAGES = ("manifests", "prompts", "pipeline", "trainer")
"""Ours beside this file. Their names are common, so somebody else's may be found in their place."""

_ARGUMENTS = "synth.arguments"
"""Where the context keeps the words of the command line, whose secrets are never shown."""


class _Formatter(click.HelpFormatter):
    """Help as click writes it, also below the 50 columns that click thinks the least."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.width = min(self.width, max(get_terminal_size().columns - 2, 20))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        is_narrow = self.width < 50
        super().write_dl(rows, self.width // 3 if is_narrow else col_max, col_spacing)


class _Context(click.Context):
    formatter_class = _Formatter


class LazyGroup(click.Group):
    """Imports a command's module only when it is used, and shows our own errors as one line."""

    context_class = _Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = resolve_name(COMMANDS[cmd_name])
        command.context_class = _Context
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, verbs in GROUPS.items():
            commands = {name: self.get_command(ctx, name) for name in verbs}
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (name, command.get_short_help_str(limit=1000))
                        for name, command in commands.items()
                        if command is not None
                    ]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Kept before parsing: click takes the words apart, and `hiding` needs the whole URLs.
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        if problem := _foreign_package():
            raise click.ClickException(problem)
        # Imported here and not above, so that `synth --help` stays quick.
        from manifests.foundation.errors import SynthError
        from manifests.foundation.logs import redact_logs
        from manifests.foundation.messages import hiding, printable, redact
        from manifests.foundation.plugins import blame, forget_plugins

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a letter that it lacks must end no command
                stream.reconfigure(errors="backslashreplace")
        redact_logs()
        forget_plugins()
        with hiding(ctx.meta[_ARGUMENTS]):
            try:
                return super().invoke(ctx)
            except click.ClickException as exc:
                # The message of a usage error may quote what the user typed.
                exc.message = printable(redact(exc.message))  # type: ignore[misc]
                raise
            except (click.Abort, KeyboardInterrupt) as exc:
                click.echo("\nstopped by Ctrl-C", err=True)
                raise click.exceptions.Exit(130) from exc
            except (click.exceptions.Exit, BrokenPipeError):
                raise  # click ends quietly where a reader such as `head` has gone
            except (Exception, SystemExit) as exc:
                # A SynthError tells the user what is wrong; its traceback would hide the message.
                # So does a line about a plug-in of somebody else. Any other exception is a bug of
                # ours, and its traceback is what we need. A command may end with a status.
                is_ours = isinstance(exc, SynthError)
                message = str(exc) if is_ours else blame(exc) or _missing_library(exc, ctx)
                if isinstance(exc, SystemExit) and not message:
                    raise
                if message and not ctx.params.get("debug"):
                    message = redact(" ".join(message.split()))
                    raise click.ClickException(printable(message)) from exc
                lines = redact("".join(traceback.format_exception(exc))).splitlines()
                click.echo("\n".join(map(printable, lines)), err=True)
                raise click.exceptions.Exit(1) from exc


def _missing_library(exc: BaseException, ctx: click.Context) -> str:
    """One line about a library that is not installed; empty if that is not what is wrong."""
    if not isinstance(exc, ModuleNotFoundError) or not exc.name or not ctx.invoked_subcommand:
        return ""
    library = exc.name.partition(".")[0]
    if library in _PACKAGES:
        return f"{exc.name} is missing: this installation is not whole, install synth-rep again"
    half = COMMANDS[ctx.invoked_subcommand].partition(".")[0]
    extra = f"pip install 'synth-rep[{half}]'"
    return f"synth {ctx.invoked_subcommand} needs {library}, which is not installed: {extra}"


def _foreign_package() -> str:
    """One line about a package of ours in whose place somebody else's would be imported; empty if
    there is none. Nothing is imported."""
    for name in _PACKAGES:
        spec = find_spec(name)
        imported = None if spec is None or spec.origin is None else Path(spec.origin)
        ours = Path(__file__).absolute().parent / name / "__init__.py"
        if not ours.exists():
            continue  # installed as no folder: whatever is found is all that there is
        if imported is None or not imported.samefile(ours):
            return (
                f"{imported or name}: is found in place of {ours}, which synth needs under the "
                f"name {name}; rename it, or take its folder from PYTHONPATH"
            )
        if other := _overwritten_by(ours):
            return (
                f"{ours}: was overwritten by the distribution {other}, which has a package {name} "
                "too; install synth-rep in an environment without it"
            )
    return ""


def _overwritten_by(file: Path) -> str:
    """Name of the distribution that put its own file in the place of ours; empty if none did."""
    try:
        ours = distribution("synth-rep")
    except PackageNotFoundError:
        return ""  # run from a folder
    recorded = _recorded(ours, file)
    if not recorded:
        return ""  # installed as a link to a folder
    digest = urlsafe_b64encode(sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
    if recorded == digest:
        return ""
    claims = (other.name for other in distributions() if _recorded(other, file) == digest)
    return next(claims, "")


def _recorded(installed: Distribution, file: Path) -> str:
    """The hash of a file that a distribution has installed; empty if it is none of its files."""
    path = f"{file.parent.name}/{file.name}"
    if Path(str(installed.locate_file(path))) != file:
        return ""
    start = f"{path},sha256="
    lines = (installed.read_text("RECORD") or "").splitlines()
    return next(
        (line.removeprefix(start).split(",")[0] for line in lines if line.startswith(start)), ""
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--debug",
    is_flag=True,
    help="Show the whole traceback of an error, with internals of this program and of libraries.",
)
@click.version_option(package_name="synth-rep", prog_name="synth")
def main(debug: bool) -> None:
    """Captions in, a training set of synthetic images out; that set in, a visual encoder out.

    Exit status: 0 done, 1 refused or wrong, 2 wrong usage, 3 finished with failed shards, 130
    stopped by Ctrl-C, 143 stopped by another signal; the same command resumes.
    """


if __name__ == "__main__":
    # `python -m` searches the working directory before all libraries: a file there, such as one
    # that came with a shard set, could pass for a plug-in.
    if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    sys.exit(main(prog_name="synth"))
