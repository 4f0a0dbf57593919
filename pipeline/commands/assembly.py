"""What `merge` and `split` have in common: take shards with a bar, seal, say what is made."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.assembling import Assembly
    from pipeline.commands.stopping import Kept

NUM_WORKERS = 8


def workers_option() -> Callable[[Any], Any]:
    """Decorate a command with the number of shards that it takes at once."""
    return click.option(
        "--workers",
        type=click.IntRange(1, 64),
        default=NUM_WORKERS,
        show_default=True,
        help="Shards that are made at once, each with its images in memory.",
    )


def make_assembly(assembly: "Assembly", kept: "Kept", *, verb: str, num_workers: int) -> str:
    """Take what is left of a set, seal it, and return the line that says so."""
    from manifests.foundation.progress import progress
    from manifests.seal_writer import seal_set
    from pipeline.commands.making import sealed_line

    identity = assembly.shards.recipe.identity
    kept.num_shards = identity.num_shards
    kept.num_kept = identity.num_shards - len(assembly.todo)
    left = sum(len(identity.subjects_in(shard)) for shard in assembly.todo)
    done = identity.num_views - left * identity.views_per_subject
    with progress(verb, "views", identity.num_views, done) as advance:
        for report in assembly.run(num_workers):
            kept.num_kept += 1
            advance(report.num_views)
    return sealed_line(assembly.shards.store.url, seal_set(assembly.shards))
