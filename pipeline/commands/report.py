"""`synth report`: one HTML page about a set."""

import click


@click.command()
@click.argument("url")
@click.option("--out", default="report.html", show_default=True, help="File to write.")
@click.option(
    "--groups", default=24, show_default=True, type=click.IntRange(1), help="Groups to show."
)
def report(url: str, out: str, groups: int) -> None:
    """Write one HTML file about a set: contact sheets, counts, failures, recipe."""
    from manifests.foundation.files import local_path, write_output
    from manifests.foundation.messages import printable
    from manifests.shard_set import ShardSet
    from pipeline.report import write_report

    # Checked first: to make the report reads the whole set.
    path = local_path(out, option="--out")
    html = write_report(ShardSet.open(url), num_groups=groups)
    # An error that the report quotes may hold half of a surrogate pair, which UTF-8 does not have.
    data = html.encode("utf-8", "backslashreplace")
    write_output(path, data, option="--out")
    click.echo(printable(f"{out}: {len(data) / 1e6:.1f} MB"))
