"""What `merge` and `split` have in common: take shards with a bar, seal, say what is made."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.assembling import Assembly


def make_assembly(assembly: "Assembly", verb: str, num_workers: int) -> str:
    """Take what is left of a set, seal it, and return the line that says so."""
    from manifests.foundation.progress import progress
    from manifests.seal_writer import seal_set

    identity = assembly.shards.recipe.identity
    left = sum(len(identity.subjects_in(shard)) for shard in assembly.todo)
    done = identity.num_views - left * identity.views_per_subject
    with progress(verb, "views", identity.num_views, done) as advance:
        for report in assembly.run(num_workers):
            advance(report.num_views)
    seal = seal_set(assembly.shards)
    counts = seal.counts
    return (
        f"{assembly.shards.store.url}: {counts['num_ok']:,} views in {counts['num_shards']:,} "
        f"shards, {counts['num_failed']:,} failed, root {seal.root_sha256[:16]}"
    )
