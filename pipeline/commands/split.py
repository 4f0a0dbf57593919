"""`synth split`: a sealed set becomes several, with no subject in two of them."""

import click

from pipeline.commands.assembly import make_assembly, workers_option
from pipeline.commands.stopping import stopping


@click.command(epilog="\b\nExamples:\n  synth split set --parts train=0.9,val=0.1 --out parts")
@click.argument("old", metavar="SET")
@click.option(
    "--parts", required=True, metavar="NAME=SHARE,...",
    help="Names and shares that add up to 1, such as train=0.9,val=0.1.",
)  # fmt: skip
@click.option("--out", required=True, help="Folder or bucket under which each part has a set.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True,
    help="Another seed gives other parts.",
)  # fmt: skip
@workers_option()
def split(old: str, parts: str, out: str, seed: int, workers: int) -> None:
    """Make a new set of each part of the groups of the sealed SET.

    The part of a group follows from its id and the seed alone: all its views are in one part, and
    it is in the same part after SET has grown. So the shares are those of a draw, and not exact.
    Nothing is rendered, and the same command resumes.
    """
    from manifests.foundation.messages import counted
    from pipeline.splitting import begin_split, parse_parts

    with stopping(out) as kept:
        for part, assembly in begin_split(old, out, parse_parts(parts, seed)):
            verb = f"split {part.name}"
            line = make_assembly(assembly, kept, verb=verb, num_workers=workers)
            num_groups = assembly.shards.recipe.identity.num_subjects
            click.echo(f"{line}, {counted(num_groups, 'group')}")
