"""`synth report`: one HTML page about a set."""

import click


@click.command(
    epilog="\b\nExamples:\n"
    "  synth report set --out report.html\n"
    "  synth report set --run runs --out report.html"
)
@click.argument("url", metavar="SET")
@click.option("--out", default="report.html", show_default=True, help="File to write.")
@click.option(
    "--groups", default=24, show_default=True, type=click.IntRange(1, 400), help="Groups to show."
)
@click.option(
    "--run",
    "runs",
    multiple=True,
    help="A run that learned from the set, or a folder of runs, of which those of this set count.",
)
@click.option(
    "--scores",
    multiple=True,
    help="Scores of `synth evaluate` beside those in the runs: a file or a folder.",
)
def report(url: str, out: str, groups: int, runs: tuple[str, ...], scores: tuple[str, ...]) -> None:
    """Write one HTML file about a set: pictures, diversity, failures, speed, what was learned.

    Of a large set parts are read, and the page says which.
    """
    from rich.filesize import decimal

    from manifests.foundation.files import local_path, write_output
    from manifests.foundation.messages import printable
    from manifests.shard_set import ShardSet
    from pipeline.report import write_report

    path = local_path(out, option="--out")  # before anything is read
    html = write_report(
        ShardSet.open(url),
        num_groups=groups,
        runs=[local_path(run, option="--run") for run in runs],
        scores=[local_path(place, option="--scores") for place in scores],
    )
    # An error that the report quotes may hold half of a surrogate pair, which UTF-8 does not have.
    data = html.encode("utf-8", "backslashreplace")
    write_output(path, data, option="--out")
    click.echo(printable(f"{out}: {decimal(len(data))}"))
