"""`synth delete`: remove a whole set."""

import click


@click.command(epilog="\b\nExamples:\n  synth delete set\n  synth delete set --yes")
@click.argument("url", metavar="SET")
@click.option("--yes", is_flag=True, help="Remove the set; without it, it is only listed.")
def delete(url: str, yes: bool) -> None:
    """List what there is of SET, and with --yes remove it, also from a bucket.

    The seal goes first and the recipe last, so what a killed command leaves is no set that anybody
    trusts, and the same command resumes. Where other files lie among those of the set, nothing is
    removed. Sets that have grown from this one do not need it. Use --yes only while nobody writes
    to the set.
    """
    from collections import Counter

    from manifests.deletion import delete_set, plan_deletion
    from manifests.foundation.progress import progress
    from manifests.shard_set import ShardSet

    deletion = plan_deletion(ShardSet.open(url))
    where = deletion.shards.store.url
    num_files: Counter[str] = Counter()
    num_bytes: Counter[str] = Counter()
    for stage in deletion.stages:
        for path, size in stage.items():
            place = f"{path.rpartition('/')[0]}/" if "/" in path else path
            num_files[place] += 1
            num_bytes[place] += size
    for place, count in sorted(num_files.items()):
        click.echo(f"{where}/{place}: {count:,} files, {num_bytes[place]:,} bytes")
    total = f"{deletion.num_files:,} files, {deletion.num_bytes:,} bytes"
    if not yes:
        click.echo(f"{where}: {total}; nothing was removed, --yes removes them")
        return
    with progress("delete", "files", deletion.num_files) as advance:
        for _ in delete_set(deletion):
            advance(1)
    click.echo(f"{where}: removed, {total}")
