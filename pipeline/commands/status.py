"""`synth status`: how much of a set is made."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Group

    from manifests.shard_set import ShardSet
    from pipeline.overview import Overview

MAX_HOSTS = 5
"""Hosts that are named as the slowest."""


@click.command(
    epilog="\b\nExamples:\n"
    "  synth status set\n"
    "  synth status s3://bucket/set --watch\n"
    "  synth status set --json"
)
@click.argument("url", metavar="SET")
@click.option(
    "--price-per-gpu-hour",
    type=click.FloatRange(min=0),
    metavar="PRICE",
    help="What an hour of a GPU costs, in any currency; costs are shown in it.",
)
@click.option("--watch", is_flag=True, help="Show it again and again until the set is sealed.")
@click.option(
    "--every",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How often --watch looks.",
)
@click.option(
    "--textfile",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write metrics for Prometheus, which node_exporter collects: a .prom file.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object: `url`, `num_views_planned`, and what pipeline.overview.Overview "
    "holds.",
)
def status(
    url: str,
    price_per_gpu_hour: float | None,
    watch: bool,
    every: float,
    textfile: Path | None,
    as_json: bool,
) -> None:
    """Show progress, rate, time left, hours and failures of a set, from storage alone.

    In an open set of more than 40 shards, what is in the shards is estimated from 40 of them.
    """
    import json
    import time
    from dataclasses import asdict

    from rich.console import Console
    from rich.live import Live

    from manifests.shard_set import ShardSet
    from pipeline.overview import overview

    if as_json and watch:
        raise click.UsageError("--json with --watch would be more than one object; leave one out")
    shards = ShardSet.open(url)
    console = Console()
    if not watch:
        summary = overview(shards)
        _write(textfile, shards, summary)
        if as_json:
            planned = {"num_views_planned": shards.recipe.identity.num_views}
            click.echo(json.dumps({"url": shards.store.url, **planned, **asdict(summary)}))
            return
        console.print(_table(shards, summary, price_per_gpu_hour))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            summary = overview(shards)
            _write(textfile, shards, summary)
            live.update(_table(shards, summary, price_per_gpu_hour), refresh=True)
            if summary.is_sealed:
                return
            time.sleep(every)


def _write(textfile: Path | None, shards: "ShardSet", summary: "Overview") -> None:
    """Metrics in place of those of the last time, whole or not at all."""
    if textfile is None:
        return
    from prometheus_client import write_to_textfile

    from manifests.foundation.errors import ConfigError
    from pipeline.exposition import exposition

    registry = exposition(shards.store.url, shards.recipe.identity.num_views, summary)
    try:
        write_to_textfile(str(textfile), registry)
    except OSError as exc:
        raise ConfigError(f"--textfile {textfile}: cannot be written ({exc.strerror})") from exc


def _table(shards: "ShardSet", summary: "Overview", price: float | None) -> "Group":
    """All that is shown of a set."""
    from rich.console import Group
    from rich.filesize import decimal
    from rich.table import Table
    from rich.text import Text

    from manifests.foundation.messages import counted, printable
    from pipeline.overview import duration

    about = "" if summary.is_exact else "about "
    is_whole = summary.num_sampled == summary.num_committed
    sample = "" if is_whole else f", in a sample of {summary.num_sampled} shards"
    table = Table(show_header=False, title=Text(printable(shards.store.url)))
    table.add_row("state", "sealed" if summary.is_sealed else "open")
    table.add_row("shards", f"{summary.num_committed:,} of {summary.num_shards:,} committed")
    planned = shards.recipe.identity.num_views
    table.add_row(
        "views", f"{about}{summary.num_ok:,} ok, {summary.num_views:,} made, {planned:,} planned"
    )
    if failed := sum(summary.reasons.values()):
        shares = (f"{reason} {count / failed:.0%}" for reason, count in summary.reasons.items())
        table.add_row("failed", Text(printable(f"{', '.join(shares)}{sample}")))
    table.add_row("tars", f"{about}{decimal(summary.tar_bytes)}")
    if summary.views_per_s is not None:
        hosts = f"{counted(len(summary.hosts), 'host')}{sample}"
        table.add_row("rate", f"{about}{summary.views_per_s:,.1f} views/s on {hosts}")
    if len(summary.hosts) > 1:
        slowest = [f"{host} {rate:,.2f}" for host, rate in [*summary.hosts.items()][:MAX_HOSTS]]
        slowest_text = f"{', '.join(slowest)} views/s a worker{sample}"
        table.add_row("slowest", Text(printable(slowest_text)))
    if not summary.is_sealed and summary.last_at is not None:
        ago = duration(max(time.time() - summary.last_at, 0.0) / 3600)
        table.add_row("last shard", f"{ago} ago{sample}")
    if not summary.is_sealed and summary.left_s is not None:
        table.add_row("time left", f"{duration(summary.left_s / 3600)} at this rate")
    if summary.device_hours is not None:
        price = price if summary.on_gpu else None
        spent = duration(summary.device_hours, price)
        table.add_row("GPUs" if summary.on_gpu else "CPU workers", f"{spent} of rendering")
        if not summary.is_sealed and summary.device_hours_left is not None:
            left = duration(summary.device_hours_left, price)
            table.add_row("", f"{left} left, by estimate")
    if not summary.is_sealed and summary.bytes_left is not None:
        table.add_row("bytes left", f"{decimal(int(summary.bytes_left))}, by estimate")
    table.add_row("given up", counted(len(summary.given_up), "shard"))
    lines = [
        Text(printable(f"shard {shard}: {errors[-1]}"))
        for shard, errors in summary.given_up.items()
        if errors
    ]
    return Group(table, *lines)
