"""`synth handwriting`: real held-out data for the demo."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of the set; a new one."
)
def handwriting(out: Path) -> None:
    """Paint real handwritten digits into a labelled set, by a fixed protocol.

    `synth evaluate RUN --on wds:OUT --test-split report` measures an encoder on it, and OUT/train
    holds real images to train on. The files have the same bytes every time.
    """
    from pipeline.embedded.paintings import write_paintings

    counts = write_paintings(out)
    click.echo(f"{out}: " + ", ".join(f"{count:,} {split}" for split, count in counts.items()))
