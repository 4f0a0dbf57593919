"""`synth verify`: check every hash and every invariant of a set."""

import click

MAX_LINES = 100


@click.command(
    epilog="\b\nExamples:\n  synth verify set\n  synth verify s3://bucket/set --sealed --json"
)
@click.argument("url", metavar="SET")
@click.option("--sealed", is_flag=True, help="Count it as a fault if the set is not sealed.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object: `url`, `is_right`, `is_sealed`, `num_shards`, `num_committed`, "
    "`root` (null if it is not sealed), and `problems`, each with `where`, `message` and `kind`.",
)
def verify(url: str, sealed: bool, as_json: bool) -> None:
    """Check every byte of a set against manifests/SPEC.md.

    Each fault is one line that says where it is. The exit status is 1 if there is a fault.
    """
    import json

    from manifests.foundation.messages import counted, printable
    from manifests.foundation.progress import progress
    from manifests.shard_set import ShardSet
    from manifests.validation import validate_shard_set

    shards = ShardSet.open(url)
    committed = len(shards.committed())
    with progress("verify", "shards", committed) as advance:
        problems = list(validate_shard_set(shards, on_shard=lambda shard: advance(1)))
    if as_json:
        seal = None if problems else shards.seal()  # a damaged one is among the problems
        is_right = not problems and (seal is not None or not sealed)
        document = {
            "url": shards.store.url,
            "is_right": is_right,
            "is_sealed": None if problems else seal is not None,
            "num_shards": shards.layout.num_shards,
            "num_committed": committed,
            "root": None if seal is None else seal.root_sha256,
            "problems": [
                {"where": one.where, "message": one.message, "kind": one.kind} for one in problems
            ],
        }
        click.echo(json.dumps(document))
        if not is_right:
            raise SystemExit(1)
        return
    for problem in problems[:MAX_LINES]:
        click.echo(printable(f"{problem.where}: {problem.message} [{problem.kind}]"))
    if len(problems) > MAX_LINES:
        click.echo(f"and {len(problems) - MAX_LINES} more")
    if problems:
        raise SystemExit(1)
    if (seal := shards.seal()) is None:
        click.echo(
            f"{shards.store.url}: {committed} of {shards.layout.num_shards} shards committed, all "
            "right; not sealed yet"
        )
        if sealed:
            raise SystemExit(1)
    else:
        click.echo(
            f"{shards.store.url}: all right: {counted(seal.counts['num_ok'], 'view')} in "
            f"{counted(committed, 'shard')}, root {seal.root_sha256[:16]}"
        )
