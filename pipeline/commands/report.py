"""`synth report`: look at a set."""

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
    from manifests.foundation.errors import ConfigError
    from manifests.shard_set import ShardSet
    from pipeline.report import write_report

    html = write_report(ShardSet.open(url), num_groups=groups)
    try:
        out.write_text(html, "utf-8")
    except OSError as exc:
        raise ConfigError(f"{out}: cannot be written ({exc.strerror}); choose --out") from exc
    click.echo(f"{out}: {len(html) / 1e6:.1f} MB")
