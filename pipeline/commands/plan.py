"""`synth plan`: what a set will take, measured before it is made."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.generate import config_of, options_of_set

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.calibration import Calibration, Estimate
    from pipeline.views import Resources

MAX_VARIATIONS = 12
"""Rows of the table of rates."""
LONG_SHARD_S = 1800.0
"""A worker that is killed loses the shard that it makes."""


@click.command(
    params=[option for option in options_of_set() if option.name != "recipe"],
    epilog="\b\nExamples:\n"
    "  synth plan recipe.toml\n"
    "  synth plan --prompts captions.txt --model embedded --views-per-subject 4\n"
    "  synth plan recipe.toml --deadline 48 --price-per-gpu-hour 2.50",
)
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Workers that will run. If not given, as many as run here.",
)
@click.option(
    "--deadline", type=click.FloatRange(min=0, min_open=True), metavar="HOURS",
    help="Say what to change so that the set is made in so many hours.",
)  # fmt: skip
@click.option(
    "--price-per-gpu-hour", type=click.FloatRange(min=0), metavar="PRICE",
    help="What an hour of a GPU costs, in any currency.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=60.0, show_default=True,
    help="How long to render for the measurement.",
)  # fmt: skip
def plan(
    recipe: Path | None,
    overrides: tuple[str, ...],
    workers: int | None,
    deadline: float | None,
    price_per_gpu_hour: float | None,
    seconds: float,
    **flags: Any,
) -> None:
    """Measure on this machine what the set of RECIPE will take; nothing is written.

    Batches of every variation are rendered for a minute with one worker. Recipe and flags are those
    of `synth generate`.
    """
    import tempfile

    from rich.console import Console

    from manifests.storage import open_store
    from pipeline.calibration import Estimate, calibrate
    from pipeline.ingredients import freeze, probe, resolve

    config = config_of(recipe, overrides, flags)
    with tempfile.TemporaryDirectory() as nowhere:  # a set that is not there freezes no value
        ingredients = probe(resolve(config, open_store(nowhere), origin=str(recipe or "recipe")))
    resources = ingredients.view_pipeline.renderer.resources()
    calibration = calibrate(ingredients, seconds=seconds)
    estimate = Estimate(
        identity=freeze(ingredients),
        calibration=calibration,
        workers=workers or _workers_here(resources),
    )
    console = Console()
    if len(estimate.identity.variations) > 1:
        console.print(_rates(estimate))
    console.print(_totals(estimate, resources, price_per_gpu_hour))
    for line in _advice(estimate, deadline):
        console.print(line, markup=False, soft_wrap=True)


def _workers_here(resources: "Resources") -> int:
    import os

    import torch

    if resources.device_type == "cuda":
        return max(1, torch.cuda.device_count() // resources.gpus)
    return max(1, (os.cpu_count() or 1) // resources.threads)


def _rates(estimate: "Estimate") -> "Table":
    from rich.table import Table

    from manifests.foundation.messages import printable
    from pipeline.wording import variation_name

    table = Table("variation", "views/s of a worker", "measured on", title="rates")
    for rate in estimate.calibration.rates[:MAX_VARIATIONS]:
        variation = estimate.identity.variations[rate.variation]
        name = variation_name(variation)
        table.add_row(printable(name), f"{1 / rate.render_s:,.2f}", f"{rate.num_views:,} views")
    return table


def _totals(estimate: "Estimate", resources: "Resources", price: float | None) -> "Table":
    from rich.filesize import decimal
    from rich.table import Table

    from pipeline.overview import duration

    identity, calibration = estimate.identity, estimate.calibration
    on_gpu = resources.device_type == "cuda"
    devices = resources.gpus if on_gpu else 1
    table = Table(show_header=False, title="plan, by measurement")
    table.add_row(
        "views",
        f"{identity.num_views:,}: {identity.num_subjects:,} subjects x "
        f"{identity.views_per_subject}",
    )
    table.add_row(
        "shards",
        f"{identity.num_shards:,}, each {duration(estimate.shard_s / 3600)} of a worker and "
        f"{decimal(int(estimate.tar_bytes / identity.num_shards))}",
    )
    slowest = "encoding" if _is_encoding_slower(calibration) else "rendering"
    table.add_row("one worker", f"{1 / calibration.view_s:,.2f} views/s, bound by {slowest}")
    table.add_row("load", f"{calibration.load_s:,.1f} s of each worker")
    table.add_row(
        f"{estimate.workers:,} worker{'s' if estimate.workers > 1 else ''}",
        duration(estimate.hours),
    )
    table.add_row(
        "GPUs" if on_gpu else "CPU workers",
        duration(estimate.worker_hours * devices, price if on_gpu else None),
    )
    table.add_row("tars", decimal(int(estimate.tar_bytes)))
    table.add_row("requests", f"{estimate.requests:,} to a bucket")
    return table


def _is_encoding_slower(calibration: "Calibration") -> bool:
    return calibration.view_s == calibration.encode_s


def _advice(estimate: "Estimate", deadline: float | None) -> list[str]:
    """What to change, most natural first."""
    from pipeline.overview import duration

    identity, lines = estimate.identity, []
    if estimate.shard_s > LONG_SHARD_S:
        subjects = max(1, int(identity.subjects_per_shard * LONG_SHARD_S / estimate.shard_s))
        lines.append(
            f"a shard takes {duration(estimate.shard_s / 3600)}, which a worker that is killed "
            f"loses; shards.subjects={subjects} makes it half an hour at most"
        )
    if estimate.workers > identity.num_shards:
        lines.append(
            f"{estimate.workers:,} workers for {identity.num_shards:,} shards: the others have "
            "nothing to do; a smaller shards.subjects makes more shards"
        )
    if deadline is None:
        return lines
    wanted = duration(deadline)
    if estimate.hours <= deadline:
        return [*lines, f"deadline of {wanted}: met"]
    ways = []
    if (workers := estimate.workers_for(deadline)) is not None:
        ways.append(f"--workers {workers:,}")
    if (views := estimate.views_for(deadline)) > 0:
        ways.append(f"views.per_subject={views}")
    if isinstance(steps := identity.constants.get("steps"), int):
        fewer = int(steps * deadline / estimate.hours)
        ways += [f"renderer.steps={fewer}"] if fewer > 0 else []
    if not ways:
        ways = ["more and smaller shards, or fewer subjects"]
    return [*lines, f"deadline of {wanted}: missed; {', or '.join(ways)} would meet it"]
