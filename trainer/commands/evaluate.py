"""`synth evaluate`: encoders and a labelled set in, accuracies out."""

from typing import Any, Literal

import click

from trainer.tasks import METRIC_NAMES

_FAILED_STATUS = 3
"""As `synth generate` has it: finished, but something was given up and is named."""


def _names(ctx: click.Context, option: click.Parameter, text: str) -> list[str]:
    """The value of --with as names. Example: "knn, linear" gives ["knn", "linear"]."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.BadParameter("expected names separated by commas, such as knn,linear")
    return names


@click.command(
    epilog="\b\nExamples:\n"
    "  synth evaluate run --on imagefolder:photos\n"
    "  synth evaluate run untrained:run --on wds:s3://bucket/labelled --with knn\n"
    "  synth evaluate --suite suite.toml"
)
@click.argument("encoders", nargs=-1, metavar="ENCODER...")
@click.option(
    "--suite",
    help="TOML file of encoders, sets and evaluations, instead of ENCODER and --on.",
)
@click.option(
    "--on",
    help="Labelled set, imagefolder:DIR or wds:URL, with train and test or val.",
)
@click.option(
    "--with",
    "names",
    callback=_names,
    default="knn,linear",
    show_default=True,
    help="Evaluations, separated by commas: knn, linear, linear-plain, linear-augmented, logistic, "
    "few-shot, zero-shot, text-retrieval, image-retrieval.",
)
@click.option(
    "--metric",
    type=click.Choice(METRIC_NAMES),
    help="What is measured. If not given, top-1, or map-11 where images have several classes.",
)
@click.option(
    "--train-split",
    default="train",
    show_default=True,
    help="Split of the labelled images that k-NN and the probe learn from.",
)
@click.option(
    "--test-split", help="Split to test on. If not given, test, or val if there is no test."
)
@click.option(
    "--out",
    help="File of the scores; a folder of files, if there are several encoders. If not given, "
    "RUN/scores/SET-SPLIT.json.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(("fp32", "tf32", "bf16")),
    default="fp32",
    show_default=True,
    help="What the towers compute in.",
)
@click.option(
    "--features",
    type=click.Choice(("float32", "float16", "bfloat16")),
    default="float32",
    show_default=True,
    help="What features are rounded to and held as.",
)
@click.option("--seed", type=click.IntRange(0), help="Seed of the weights of untrained:RUN.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME.KEY=VALUE",
    help="A setting of an evaluation, such as linear.epochs=9, or of the crop: crop.fraction=1.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object: `scores`, the contents of a score file for each encoder, and "
    "`files`, where they were written (null for nowhere).",
)
@click.pass_context
def evaluate(
    ctx: click.Context,
    encoders: tuple[str, ...],
    suite: str | None,
    on: str | None,
    names: list[str],
    metric: str | None,
    train_split: str,
    test_split: str | None,
    out: str | None,
    device: str,
    batch_size: int,
    precision: Literal["fp32", "tf32", "bf16"],
    features: Literal["float32", "float16", "bfloat16"],
    seed: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure one ENCODER or several on a labelled set.

    ENCODER is a run, the encoder.safetensors of one, a file of its checkpoints, untrained:RUN (the
    same tower with fresh weights), weights:MODEL@FILE (a timm tower with weights of another
    program), timm:NAME or open_clip:NAME@PRETRAINED (a pretrained model), or pixels:PX (no encoder
    at all).
    Nothing is chosen by looking at the test split. With torchrun, ranks share the images.

    With --suite, all encoders of the file are measured on all of its sets; the same command goes on
    where it stopped, and ends with status 3 if a set or an encoder failed.
    """
    if suite is not None:
        _refuse_beside_suite(ctx)
        _run_suite(suite, device=device, batch_size=batch_size)
        return
    if not encoders or on is None:
        raise click.UsageError("expected ENCODER... and --on SET, or --suite FILE.toml")
    import json

    from rich.console import Console

    from manifests.foundation.files import local_path
    from manifests.foundation.settings import check, read_settings
    from trainer.evaluations import choose_evaluations, require_evaluations
    from trainer.frozen_encoders import Crop, cropped, open_encoder, require_encoder
    from trainer.labelled_sets import open_labelled
    from trainer.score_file import files_in, read_scores, scores_path, write_scores

    # Whatever can be refused is refused before features are made, and what is refused here costs
    # no import of torch.
    out_path = None if out is None else local_path(out, option="--out")
    settings = read_settings(recipe=None, overrides=overrides, flags={})
    labelled = open_labelled(on)
    splits = {"train_split": train_split, "test_split": test_split or labelled.test_split()}
    labelled.split(splits["test_split"])  # raises if there is no such split
    require_evaluations(names)
    crop = check(Crop, settings.pop("crop", {}), origin="--set", table="crop")
    for address in encoders:
        require_encoder(address, seed=seed)

    from trainer.distributed import local_device, process_group
    from trainer.scoring import known_classes, require_evaluable, score_encoder

    evaluations = choose_evaluations(names, settings)
    torch_device = local_device(device)
    opened = [
        cropped(
            open_encoder(
                address, device=torch_device, seed=seed, held_as=features, precision=precision
            ),
            crop,
        )
        for address in encoders
    ]
    if out_path is not None and len(opened) > 1:
        paths = files_in(out_path, [encoder.name for encoder in opened])
    else:
        paths = [out_path or scores_path(e.run, labelled.name, **splits) for e in opened]
    classes = known_classes(labelled, metric)
    for encoder, path in zip(opened, paths, strict=True):
        require_evaluable(encoder, classes, evaluations)
        if path is not None:  # a file of something else is refused now, not after hours of work
            read_scores(path, set_name=labelled.name, **splits)
    documents = []
    with process_group(torch_device):
        for encoder, path in zip(opened, paths, strict=True):
            document = score_encoder(
                encoder,
                labelled,
                evaluations,
                train_split=splits["train_split"],
                test_split=splits["test_split"],
                batch_size=batch_size,
                metric=classes.metric,
            )
            if document is None:  # on every rank but the first
                continue
            if path is not None:
                write_scores(path, document)
            documents.append(document)
    if not documents:
        return
    if as_json:
        files = [None if path is None else str(path) for path in paths]
        click.echo(json.dumps({"scores": documents, "files": files}))
        return
    Console().print(_table(documents))
    if count := documents[0]["set"]["num_test_in_train"]:
        click.echo(f"note: {count:,} test images are also in train, byte for byte", err=True)
    for path in filter(None, paths):
        click.echo(str(path))


def _refuse_beside_suite(ctx: click.Context) -> None:
    """Refuse what the suite file says itself. Raises UsageError."""
    allowed = {"suite", "device", "batch_size"}
    for parameter in ctx.command.params:
        name = parameter.name or ""
        given = ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if given and name not in allowed and ctx.params[name]:
            raise click.UsageError(
                f"{parameter.get_error_hint(ctx)} and --suite: the file says what is evaluated"
            )


def _run_suite(file: str, *, device: str, batch_size: int) -> None:
    from contextlib import chdir
    from pathlib import Path

    from rich.console import Console

    from manifests.foundation.errors import ConfigError
    from manifests.foundation.files import local_path
    from manifests.foundation.messages import printable
    from manifests.foundation.settings import check, read_settings
    from trainer.distributed import local_device, process_group, rank
    from trainer.suite_report import JSON_FILE, PLOT_FILE, draw_plot, suite_table, write_report
    from trainer.suites import Suite, run_suite

    path = local_path(file, option="--suite")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give --suite FILE.toml")
    suite = check(Suite, read_settings(recipe=path, overrides=(), flags={}), origin=str(path))
    folder = path.parent / local_path(suite.out, option="out")
    torch_device = local_device(device)
    with process_group(torch_device), chdir(path.parent):
        cells = run_suite(suite, device=torch_device, batch_size=batch_size)
        if rank():
            return
        folder_inside = Path(suite.out)
        write_report(folder_inside, suite, cells)
        is_drawn = draw_plot(folder_inside, cells)
    Console().print(suite_table(cells))
    for cell in cells:
        for name, reason in cell.left_out.items():
            click.echo(f"note: {printable(cell.set)}: {name} left out: {reason}", err=True)
    shared = {
        cell.set: cell.document["set"]["num_test_in_train"] for cell in cells if cell.document
    }
    for title, count in shared.items():
        if count:
            click.echo(
                f"note: {printable(title)}: {count:,} test images are also in train, byte for byte",
                err=True,
            )
    click.echo(str(folder / JSON_FILE))
    if is_drawn:
        click.echo(str(folder / PLOT_FILE))
    else:
        click.echo("note: no plot: pip install 'synth-rep[benchmarks]'", err=True)
    if failed := [cell for cell in cells if cell.failure]:
        for cell in failed:
            where = f"{printable(cell.encoder)} on {printable(cell.set)}"
            click.echo(f"failed: {where}: {printable(cell.failure)}", err=True)
        raise SystemExit(_FAILED_STATUS)


def _table(documents: list[dict[str, Any]]) -> Any:
    """The scores as a table of rich: a section for each evaluation, a row for each encoder."""
    from rich.text import Text

    from manifests.foundation.fitting import FittingTable
    from manifests.foundation.messages import printable

    scored, test = documents[0]["set"], documents[0]["set"]["test"]
    learned = "" if scored["train_split"] == "train" else f"{scored['train_split']} to "
    table = FittingTable(
        title=Text(  # plain text: brackets in the name of a set are not markup
            printable(f"{scored['name']}, {learned}{scored['test_split']}"), style="table.title"
        ),
        caption=f"{test['num_images']:,} images of {test['num_groups']:,} groups",
    )
    table.add_column("evaluation", no_wrap=True)
    table.add_column("encoder", overflow="fold")
    # A metric of its own is not shown twice, nor one that no score has.
    everything = [score for document in documents for score in document["scores"]]
    metric = everything[0]["metric"]
    others = [
        other
        for other in _OTHERS
        if other.replace("per class", "mean-per-class") != metric
        and any(_other(score, other) is not None for score in everything)
    ]
    headers = (f"{metric} %", "95 % interval", *(f"{other} %" for other in others))
    rows = [
        (
            score["name"],
            Text(printable(document["encoder"]["name"])),
            f"{100 * score['value']:.1f}",
            f"{100 * score['low']:.1f}-{100 * score['high']:.1f}",
            *(_percent(_other(score, other)) for other in others),
        )
        for scores in zip(*(document["scores"] for document in documents), strict=True)
        for document, score in zip(documents, scores, strict=True)
    ]
    for header in headers:
        table.add_column(header, justify="right")
    for number, row in enumerate(rows, start=1):
        table.add_row(*row, end_section=number % len(documents) == 0)
    return table


_OTHERS = {
    "top-1": "top1",
    "top-5": "top5",
    "per class": "mean_per_class",
    "recall@5": "recall@5",
    "recall@10": "recall@10",
}
"""Columns of the table besides the metric of the set, and where a score has them."""


def _other(score: dict[str, Any], name: str) -> float | None:
    value: float | None = (score["details"] | {"top5": score["top5"]}).get(_OTHERS[name])
    return value


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
