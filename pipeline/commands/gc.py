"""`synth gc`: remove files that nothing in the set refers to."""

import click


@click.command()
@click.argument("url")
@click.option("--yes", is_flag=True, help="Remove the files; without it they are only listed.")
def gc(url: str, yes: bool) -> None:
    """List tars that no manifest commits, and with --yes remove them.

    Writing a set never deletes anything. Use --yes only while nobody writes to the set: a shard
    that is being committed has a tar and no manifest for a moment.
    """
    from manifests.garbage import find_garbage, remove_garbage
    from manifests.shard_set import ShardSet

    shards = ShardSet.open(url)
    paths = remove_garbage(shards) if yes else list(find_garbage(shards))
    for path in paths:
        click.echo(shards.store.at(path))
    click.echo(
        f"{len(paths)} files {'removed' if yes else 'that nothing names; --yes removes them'}"
    )
