"""`synth export`: a finished run in, a folder that another library opens out."""

import click


@click.command(epilog="\b\nExamples:\n  synth export run --as timm-hub --out encoder")
@click.argument("run")
@click.option(
    "--as",
    "name",
    required=True,
    help="Format: timm-hub, open-clip, onnx, or package.module:Class.",
)
@click.option("--out", required=True, help="Folder to make.")
@click.option(
    "--learned-from",
    metavar="SET",
    help="The set that RUN learned from: the card then states its generator and licences.",
)
def export(run: str, name: str, out: str, learned_from: str | None) -> None:
    """Write the finished RUN, or a checkpoint of one, in the format of another library.

    RUN is a folder, a file of its checkpoints, or the URL of either.

    timm-hub is a folder for the Hugging Face Hub with a model card, open-clip both towers of a run
    that learned from texts, onnx a graph from pixels to features.
    """
    from manifests.foundation.files import local_path
    from trainer.exporting import export_finished
    from trainer.places import run_files

    folder = local_path(out, option="--out")
    with run_files(run, option="RUN") as run_folder:
        export_finished(run_folder, name, folder, learned_from=learned_from)
    if learned_from is None and (folder / "README.md").exists():
        click.echo("note: the set was not read; --learned-from SET states its licences", err=True)
    click.echo(str(folder))
