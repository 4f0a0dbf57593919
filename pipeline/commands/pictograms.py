"""`synth pictograms`: drawings of known and unseen artists, to measure encoders on."""

import click


@click.command(epilog="\b\nExamples:\n  synth pictograms --out pictograms")
@click.option("--out", required=True, help="Folder of the set; a new one.")
def pictograms(out: str) -> None:
    """Write drawings of 249 things as a labelled set, by a fixed protocol.

    `synth evaluate RUN --on wds:OUT --test-split test` measures an encoder on an artist whom
    nothing was trained on, and OUT/train holds real pictures to train on. The files have the same
    bytes every time.
    """
    from manifests.foundation.errors import ConfigError
    from manifests.foundation.files import local_path
    from pipeline.embedded.pictograms import write_pictograms

    folder = local_path(out, option="--out")
    try:
        counts = write_pictograms(folder)
    except OSError as exc:
        raise ConfigError(f"--out {folder}: {exc.strerror}; give another folder") from exc
    click.echo(f"{out}: " + ", ".join(f"{count:,} {split}" for split, count in counts.items()))
