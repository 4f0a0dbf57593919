"""`synth merge`: several sealed sets become one."""

import click


@click.command(epilog="\b\nExamples:\n  synth merge animals plants --out nature")
@click.argument("sets", metavar="SET SET...", nargs=-1, required=True)
@click.option("--out", required=True, help="Folder or bucket of the new set.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=8, show_default=True,
    help="Shards that are made at once.",
)  # fmt: skip
def merge(sets: tuple[str, ...], out: str, workers: int) -> None:
    """Make one new set of all groups of sealed sets that were made in one way.

    Nothing is rendered. A group that several sets have is taken from the first of them. Sets of
    other models or settings are refused, and `synth train mix:FILE` learns from them as they are.
    The same command continues where it was stopped.
    """
    from pipeline.commands.assembly import make_assembly
    from pipeline.joining import begin_merge

    merged = begin_merge(sets, out)
    line = make_assembly(merged.assembly, "merge", workers)
    click.echo(f"{line}, {merged.num_equal:,} equal groups of several sets are once in it")
