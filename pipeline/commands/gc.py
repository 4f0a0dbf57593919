"""`synth gc`: remove files that nothing in the set refers to."""

import click


@click.command(epilog="\b\nExamples:\n  synth gc s3://bucket/set\n  synth gc set --yes")
@click.argument("url", metavar="SET")
@click.option("--yes", is_flag=True, help="Remove the files; without it they are only listed.")
def gc(url: str, yes: bool) -> None:
    """List what nothing names, and with --yes remove it.

    That is tars that no manifest commits, an index that the seal does not name, and in a bucket of
    S3 uploads that never ended, whose parts are billed. --yes also removes temporary files that
    killed writers left in a folder. Writing a set never deletes anything. Use --yes only while
    nobody writes to the set: a shard that is being committed has a tar and no manifest for a
    moment.
    """
    from manifests.foundation.messages import counted
    from manifests.garbage import find_garbage, remove_garbage
    from manifests.shard_set import ShardSet

    shards = ShardSet.open(url)
    garbage = find_garbage(shards)
    for path in garbage.files:
        click.echo(shards.store.at(path))
    for path in garbage.uploads.values():
        click.echo(f"{shards.store.at(path)}, an upload that never ended")
    if yes:
        remove_garbage(shards, garbage)
    counts = f"{counted(len(garbage.files), 'file')} and {counted(len(garbage.uploads), 'upload')}"
    click.echo(f"{counts} {'removed' if yes else 'that nothing names; --yes removes them'}")
