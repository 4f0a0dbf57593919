"""`synth evaluate`: an encoder and a labelled set in, accuracies out."""

from pathlib import Path
from typing import Any

import click


def _names(ctx: click.Context, option: click.Parameter, text: str) -> list[str]:
    names = [each.strip() for each in text.split(",") if each.strip()]
    if not names:
        raise click.BadParameter("expected names separated by commas, such as knn,linear")
    return names


@click.command()
@click.argument("encoder")
@click.option("--on", required=True, help="imagefolder:DIR or wds:URL, with train and test or val.")
@click.option(
    "--with",
    "names",
    callback=_names,
    default="knn,linear",
    show_default=True,
    help="knn, linear, zero-shot.",
)
@click.option("--test-split", help="[default: test or val, whichever is there]")
@click.option("--out", type=click.Path(path_type=Path), help="[default: RUN/scores/SET-SPLIT.json]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True)
@click.option("--seed", type=click.IntRange(0), help="Of the weights of untrained:RUN.")
@click.option("--set", "overrides", multiple=True, metavar="NAME.KEY=VALUE", help="linear.epochs=9")
def evaluate(
    encoder: str,
    on: str,
    names: list[str],
    test_split: str | None,
    out: Path | None,
    device: str,
    batch_size: int,
    seed: int | None,
    overrides: tuple[str, ...],
) -> None:
    """Measure ENCODER on a labelled set.

    ENCODER is a run, the encoder.safetensors of one, untrained:RUN (the same tower with fresh
    weights), or pixels:PX (no encoder at all). Nothing is chosen by looking at the test split.
    With torchrun, ranks share the images.
    """
    from rich.console import Console

    from manifests.foundation.settings import read_settings
    from trainer import evaluating
    from trainer.data.labelled import open_labelled
    from trainer.distributed import local_device, process_group

    settings = read_settings(recipe=None, overrides=overrides, flags={})
    evaluations = evaluating.open_evaluations(names, settings)
    labelled = open_labelled(on)
    split = test_split or labelled.test_split()
    labelled.split(split)
    place = local_device(device)
    examinee = evaluating.open_encoder(encoder, device=place, seed=seed)
    path = out or evaluating.scores_path(examinee, labelled, split)
    if path is not None:  # before hours are spent
        evaluating.read_scores(path, set_name=labelled.name, test_split=split)
    with process_group(place):
        document = evaluating.evaluate(
            examinee, labelled, evaluations, test_split=split, batch_size=batch_size
        )
    if document is None:
        return
    if path is not None:
        evaluating.write_scores(path, document)
    Console().print(_table(document))
    about = document["set"]
    if about["num_test_in_train"]:
        click.echo(
            f"note: {about['num_test_in_train']:,} test images are in train too, to the byte",
            err=True,
        )
    if path is not None:
        click.echo(str(path))


def _table(document: dict[str, Any]) -> Any:
    from rich.table import Table

    about = document["set"]
    table = Table(
        title=f"{document['encoder']['name']} on {about['name']}, {about['test_split']}",
        caption=f"{about['test']['num_images']:,} images of {about['test']['num_groups']:,} groups",
    )
    table.add_column("evaluation")
    table.add_column("accuracy %", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("mean per class %", justify="right")
    for score in document["scores"]:
        table.add_row(
            score["name"],
            f"{100 * score['accuracy']:.1f}",
            f"{100 * score['low']:.1f} to {100 * score['high']:.1f}",
            f"{100 * score['details']['mean_per_class']:.1f}",
        )
    return table
