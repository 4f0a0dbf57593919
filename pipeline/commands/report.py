"""`synth report`: a set as one HTML page."""

from pathlib import Path

import click


@click.command()
@click.argument("url")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True
)
@click.option(
    "--groups", default=24, show_default=True, type=click.IntRange(1), help="Groups to show."
)
def report(url: str, out: Path, groups: int) -> None:
    """Write one HTML file about a set: contact sheets, counts, failures, recipe."""
    from manifests.foundation.files import require_local, write_output
    from manifests.foundation.messages import printable
    from manifests.shard_set import ShardSet
    from pipeline.report import write_report

    require_local(out, "--out")
    html = write_report(ShardSet.open(url), num_groups=groups)
    # An error that is quoted in the report may hold half of a surrogate pair.
    data = html.encode("utf-8", "backslashreplace")
    write_output(out, data, option="--out")
    click.echo(printable(f"{out}: {len(data) / 1e6:.1f} MB"))
