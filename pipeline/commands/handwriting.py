"""`synth handwriting`: real held-out data for the demo."""

import click


@click.command()
@click.option("--out", required=True, help="Folder of the set; a new one.")
def handwriting(out: str) -> None:
    """Paint real handwritten digits into a labelled set, by a fixed protocol.

    `synth evaluate RUN --on wds:OUT --test-split report` measures an encoder on it, and OUT/train
    holds real images to train on. The files have the same bytes every time.
    """
    from manifests.foundation.errors import ConfigError
    from manifests.foundation.files import local_path
    from pipeline.embedded.paintings import write_paintings

    folder = local_path(out, option="--out")
    try:
        counts = write_paintings(folder)
    except OSError as exc:
        raise ConfigError(f"--out {folder}: {exc.strerror}; give another folder") from exc
    click.echo(f"{out}: " + ", ".join(f"{count:,} {split}" for split, count in counts.items()))
