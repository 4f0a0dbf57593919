"""`synth publish`: make a verified copy of a sealed set in a folder or a bucket."""

import click


@click.command(
    epilog="\b\nExamples:\n"
    "  synth publish set s3://bucket/set\n"
    "  synth publish s3://bucket/set copy"
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Files that are copied at once.",
)
def publish(source: str, target: str, workers: int) -> None:
    """Copy a sealed set to a folder or a bucket; every byte is checked, the seal comes last.

    SRC and DST are folders or URLs: the same command brings a set from a bucket to this machine.
    The same command resumes a copy that was stopped. Files that DST has already are compared and
    never overwritten.
    """
    from manifests.foundation.progress import progress
    from manifests.publish import publish as publish_files
    from manifests.publish_plan import plan_publication
    from manifests.shard_set import ShardSet
    from manifests.storage import open_store

    publication = plan_publication(ShardSet.open(source), open_store(target))
    num_bytes = sum(file.size_bytes for file in publication.files)
    num_new = new_bytes = 0
    with progress("publish", "bytes", num_bytes) as advance:
        for copied in publish_files(publication, num_workers=workers):
            advance(copied.file.size_bytes)
            num_new += copied.is_new
            new_bytes += copied.file.size_bytes * copied.is_new
    num_old, url = len(publication.files) - num_new, publication.target.url
    root = publication.seal.root_sha256[:16]
    if num_new:
        click.echo(
            f"{url}: {num_new:,} files copied ({new_bytes:,} bytes), {num_old:,} were there "
            f"({num_bytes - new_bytes:,} bytes), root {root}"
        )
    else:
        click.echo(
            f"{url}: complete already, nothing written: {num_old:,} files ({num_bytes:,} bytes) "
            f"compared, root {root}"
        )
