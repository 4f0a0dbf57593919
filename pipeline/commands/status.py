"""`synth status`: how much of a set is made."""

import click


@click.command()
@click.argument("url")
@click.option(
    "--price-per-gpu-hour",
    type=click.FloatRange(min=0),
    metavar="PRICE",
    help="What an hour of a GPU costs, in any currency; costs are shown in it.",
)
def status(url: str, price_per_gpu_hour: float | None) -> None:
    """Show progress, rate, time left, hours and failures of a set, from storage alone."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table
    from rich.text import Text

    from manifests.foundation.messages import printable
    from manifests.shard_set import ShardSet
    from pipeline.overview import duration, overview

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
    table.add_row("tars", decimal(summary.tar_bytes))
    if summary.views_per_s is not None:
        table.add_row("rate", f"{summary.views_per_s:,.1f} views/s on {len(summary.hosts)} hosts")
    if not summary.is_sealed and summary.left_s is not None:
        table.add_row("time left", f"{summary.left_s:,.0f} s at this rate")
    if summary.device_hours is not None:
        price = price_per_gpu_hour if summary.on_gpu else None
        spent = duration(summary.device_hours, price)
        table.add_row("GPUs" if summary.on_gpu else "CPU workers", f"{spent} of rendering")
        if not summary.is_sealed and summary.device_hours_left is not None:
            left = duration(summary.device_hours_left, price)
            table.add_row("", f"{left} left, by estimate")
    if not summary.is_sealed and summary.bytes_left is not None:
        table.add_row("bytes left", f"{decimal(int(summary.bytes_left))}, by estimate")
    table.add_row("given up", f"{len(summary.given_up):,} shards")
    console = Console()
    console.print(table)
    for shard, errors in list(summary.given_up.items())[:20]:
        last = errors[-1] if errors else "no error was recorded"
        console.print(Text(printable(f"shard {shard}: {last}")))
