"""`synth merge`: several sealed sets become one."""

import click

from pipeline.commands.assembly import make_assembly, workers_option
from pipeline.commands.stopping import stopping


@click.command(epilog="\b\nExamples:\n  synth merge animals plants --out nature")
@click.argument("sets", metavar="SET SET...", nargs=-1, required=True)
@click.option("--out", required=True, help="Folder or bucket of the new set.")
@workers_option()
def merge(sets: tuple[str, ...], out: str, workers: int) -> None:
    """Make one new set of all groups of sealed sets that were made in one way.

    Nothing is rendered. A group that several sets have is taken from the first of them. Sets of
    other models or settings are refused, and `synth train mix:FILE` learns from them as they are.
    The same command resumes.
    """
    from pipeline.joining import begin_merge

    with stopping(out) as kept:
        merged = begin_merge(sets, out)
        line = make_assembly(merged.assembly, kept, verb="merge", num_workers=workers)
    click.echo(f"{line}; groups that several sets have: {merged.num_equal:,}, each taken once")
