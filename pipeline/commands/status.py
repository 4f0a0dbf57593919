"""`synth status`: how much of a set is made."""

import click


@click.command()
@click.argument("url")
def status(url: str) -> None:
    """Show progress, rate, time left and failures of a set, from storage alone."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from manifests.foundation.messages import printable
    from manifests.shard_set import ShardSet
    from pipeline.overview import overview

    shards = ShardSet.open(url)
    summary = overview(shards)
    identity = shards.recipe.identity
    table = Table(show_header=False, title=Text(printable(shards.store.url)))
    state = "sealed" if summary.is_sealed else "open"
    table.add_row("state", state)
    table.add_row("shards", f"{summary.num_committed:,} of {summary.num_shards:,} committed")
    planned = identity.num_views
    table.add_row(
        "views", f"{summary.num_ok:,} ok, {summary.num_views:,} made, {planned:,} planned"
    )
    table.add_row("tars", f"{summary.tar_bytes / 1e6:,.1f} MB")
    if summary.views_per_s is not None:
        table.add_row("rate", f"{summary.views_per_s:,.1f} views/s on {len(summary.hosts)} hosts")
    if not summary.is_sealed and summary.left_s is not None:
        table.add_row("time left", f"{summary.left_s:,.0f} s at this rate")
    table.add_row("given up", f"{len(summary.given_up):,} shards")
    console = Console()
    console.print(table)
    for shard, errors in list(summary.given_up.items())[:20]:
        last = errors[-1] if errors else "no error was recorded"
        console.print(Text(printable(f"shard {shard}: {last}")))
