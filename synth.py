"""The front door: one command line over two programs that do not know each other.

It names both halves and imports neither: a command is loaded when it is used.
"""

import os
import sys
import traceback
from difflib import get_close_matches
from pkgutil import resolve_name

import click

COMMANDS = {
    "plan": "pipeline.commands.plan:plan",
    "preview": "pipeline.commands.preview:preview",
    "generate": "pipeline.commands.generate:generate",
    "status": "pipeline.commands.status:status",
    "verify": "pipeline.commands.verify:verify",
    "show": "pipeline.commands.show:show",
    "report": "pipeline.commands.report:report",
    "gc": "pipeline.commands.gc:gc",
    "publish": "pipeline.commands.publish:publish",
    "train": "trainer.commands.train:train",
    "evaluate": "trainer.commands.evaluate:evaluate",
    "export": "trainer.commands.export:export",
    "doctor": "pipeline.commands.doctor:doctor",
    "steer": "pipeline.commands.steer:steer",
    "pictograms": "pipeline.commands.pictograms:pictograms",
    "demo": "pipeline.commands.demo:demo",
}

_ARGUMENTS = "synth.arguments"
"""Where the context keeps the words of the command line, whose secrets are never shown."""


class LazyGroup(click.Group):
    """Imports a command's module only when it is used, and shows our own errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = resolve_name(COMMANDS[cmd_name])
        return command

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
        # Imported here and not above, so that `synth --help` stays quick.
        from manifests.foundation.errors import SynthError
        from manifests.foundation.logs import redact_logs
        from manifests.foundation.messages import hiding, printable, redact
        from manifests.foundation.plugins import blame, forget_plugins

        redact_logs()
        forget_plugins()
        with hiding(ctx.meta[_ARGUMENTS]):
            try:
                return super().invoke(ctx)
            except click.ClickException as exc:
                # The message of a usage error may quote what the user typed.
                exc.message = printable(redact(exc.message))  # type: ignore[misc]
                raise
            except (click.exceptions.Exit, click.Abort, KeyboardInterrupt):
                raise
            except (Exception, SystemExit) as exc:
                # A SynthError tells the user what is wrong; its traceback would hide the message.
                # So does a line about a plug-in of somebody else. Any other exception is a bug of
                # ours, and its traceback is what we need. A command may end with a status.
                message = str(exc) if isinstance(exc, SynthError) else blame(exc)
                if isinstance(exc, SystemExit) and not message:
                    raise
                if message and not ctx.params.get("debug"):
                    message = redact(" ".join(message.split()))
                    raise click.ClickException(printable(message)) from exc
                lines = redact("".join(traceback.format_exception(exc))).splitlines()
                click.echo("\n".join(map(printable, lines)), err=True)
                raise click.exceptions.Exit(1) from exc


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--debug",
    is_flag=True,
    help="Show the whole traceback of an error, with internals of this program and of libraries.",
)
@click.version_option(package_name="synth-rep", prog_name="synth")
def main(debug: bool) -> None:
    """Captions in, a training set of synthetic images out; that set in, a visual encoder out.

    Exit status: 0 done, 1 refused or wrong, 2 wrong usage, 3 finished with failed shards, 143
    stopped by a signal; the same command continues.
    """


if __name__ == "__main__":
    # `python -m` searches the working directory before all libraries: a file there, such as one
    # that came with a shard set, could pass for a plug-in.
    if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    sys.exit(main(prog_name="synth"))
