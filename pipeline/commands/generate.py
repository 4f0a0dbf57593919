"""`synth generate`: captions in, shards and manifests out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.flags import (
    execution_flags,
    flag,
    keys_of_flags,
    making_options,
    values_by_key,
)

if TYPE_CHECKING:
    from pipeline.config import GenerateConfig


def _numbers(ctx: click.Context, option: click.Parameter, text: str | None) -> Any:
    """Value of an option such as 1,3,8; None if it is not given."""
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as exc:
        raise click.BadParameter("expected numbers separated by commas, such as 1,3,8") from exc


def _sizes(ctx: click.Context, option: click.Parameter, text: str | None) -> Any:
    """Value of an option such as 512 or 512,640x448; None if it is not given."""
    if text is None:
        return None
    try:
        sizes = [[int(side) for side in size.split("x")] for size in text.split(",")]
    except ValueError:
        sizes = [[]]
    if any(len(sides) not in (1, 2) for sides in sizes):
        raise click.BadParameter(
            "expected px such as 512, or width x height such as 640x448; several with commas"
        )
    if len(sizes) == 1:
        return sizes[0][0] if len(sizes[0]) == 1 else tuple(sizes[0])
    return tuple((sides[0], sides[-1]) for sides in sizes)


def _auto_or_number(ctx: click.Context, option: click.Parameter, text: str | None) -> Any:
    """Value of an option such as 48 or auto; None if it is not given."""
    if text is None or text == "auto":
        return text
    try:
        return int(text)
    except ValueError as exc:
        raise click.BadParameter("expected auto or a number") from exc


@click.command(
    epilog="\b\nExamples:\n"
    "  synth generate --prompts captions.txt --out set --model embedded\n"
    "  synth generate --prompts captions.parquet --out s3://bucket/set \\\n"
    "      --model stable-diffusion-v1-5/stable-diffusion-v1-5 --guidance 1,2,4\n"
    "  synth generate --out set"
)
@flag(
    "--prompts",
    "prompts.file",
    help="Captions: .txt .csv .tsv .jsonl .parquet, path or URL; "
    "- reads them from standard input, one on each line.",
)
@flag("--caption-column", "prompts.caption_column", help="Column of the captions.")
@click.option(
    "--out", required=True, help="Folder or bucket of the set. An unfinished set is resumed."
)
@flag("--renderer", "renderer.name", help="Name of the renderer, or package.module:Class.")
@flag("--model", "renderer.model", help="'embedded', a diffusers folder, or hub id[@revision].")
@flag("--views-per-subject", "views.per_subject", type=int, help="Views of each caption.")
@flag(
    "--guidance",
    "renderer.guidance",
    callback=_numbers,
    help="One scale, or several to deal: 1,3,8. If not given, what suits the model.",
)
@flag(
    "--negative-prompt", "renderer.negative_prompt", help="What guided views are steered away from."
)
@flag(
    "--paired/--unpaired",
    "views.paired",
    default=None,
    help="Let the scales of one draw share its noise, to compare them. If not given, unpaired.",
)
@flag(
    "--scheduler",
    "renderer.scheduler",
    help="Class of a diffusers scheduler, such as DDIMScheduler. If not given, the model's.",
)
@flag(
    "--steps",
    "renderer.steps",
    type=int,
    help="Denoising steps. If not given, the pipeline's default.",
)
@flag(
    "--size",
    "renderer.size_px",
    callback=_sizes,
    help="Rendered px: 512 or 640x448, or several to deal: 512,640x448. If not given, the model's.",
)
@flag("--dtype", "renderer.dtype", help="Numbers to compute with: float32, float16 or bfloat16.")
@flag(
    "--store-size",
    "image.size_px",
    type=int,
    help="Shorter side stored, px. If not given, as rendered.",
)
@flag("--seed", "views.seed", type=int, help="Seed of the whole set.")
@flag("--subjects-per-shard", "shards.subjects", type=int, help="Captions in one shard.")
@flag(
    "--batch-size", "renderer.batch_size", callback=_auto_or_number, help="Views rendered at once."
)
@execution_flags
@click.option(
    "--recipe", type=click.Path(path_type=Path), help="TOML file with any of these and more."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any key of a recipe.")
@click.option(
    "--trust",
    multiple=True,
    metavar="MODULE:CLASS",
    help="Resume with this plug-in of somebody else, which the set names.",
)
@click.option(
    "--price-per-gpu-hour",
    type=click.FloatRange(min=0),
    metavar="PRICE",
    help="Say what a set on GPUs will cost, by estimate, before it is made.",
)
@click.option(
    "--time-batches", is_flag=True, help="Print the rate of each batch size, and make nothing."
)
@making_options
def generate(
    out: str,
    recipe: Path | None,
    overrides: tuple[str, ...],
    trust: tuple[str, ...],
    retry_failed: bool,
    seal_incomplete: bool,
    max_failed: float,
    price_per_gpu_hour: float | None,
    time_batches: bool,
    share: str | None,
    **flags: Any,
) -> None:
    """Render views of captions into shards and manifests.

    The same command resumes where it stopped; so does --out alone, without the captions. Exit
    status 3 means that some shards were given up; they are named, and --retry-failed tries them
    again.
    """
    from manifests.foundation.messages import redact
    from pipeline.commands.making import make, require_shareable
    from pipeline.commands.stopping import stopping
    from pipeline.generating import begin, rejoin

    part = require_shareable(share, seal_incomplete)
    keys = values_by_key(flags)
    config = config_of(recipe, overrides, flags)
    if time_batches:
        _print_rates(config, out, str(recipe or "recipe"))
        return
    # Nothing says what to render: the set itself does, so the captions may be gone by now.
    is_resumed = recipe is None and not overrides and _says_nothing_of_a_set(keys)
    if trust and not is_resumed:
        raise click.UsageError("--trust is for a set that --out alone resumes; leave it out")
    # What came through a pipe is gone, but the set holds it.
    is_piped = config.prompts.get("file") == "-"
    again = f"synth generate --out {redact(out)}" if is_piped else "the same command"
    with stopping(out, again=again) as kept:
        if is_resumed:
            generation = rejoin(
                config.execution, out, retry_failed=retry_failed, share=part, trusted=trust
            )
            origin_of_set = generation.shards.recipe.origin
            if origin_of_set is not None and generation.todo:
                click.echo(
                    f"note: {redact(out)}: takes views from other sets by `synth "
                    f"{origin_of_set.verb}`; this command renders them again",
                    err=True,
                )
        else:
            origin = str(recipe or "recipe")
            generation = begin(config, out, retry_failed=retry_failed, share=part, origin=origin)
        make(
            generation,
            part,
            kept,
            seal_incomplete=seal_incomplete,
            max_failed=max_failed,
            price=price_per_gpu_hour,
        )


def config_of(
    recipe: Path | None, overrides: tuple[str, ...], flags: dict[str, Any]
) -> "GenerateConfig":
    """The recipe that file, `--set` and the flags of the running command make together."""
    from pipeline.config import load_config

    return load_config(recipe=recipe, overrides=overrides, flags=values_by_key(flags))


def options_of_set() -> list[click.Parameter]:
    """The options of `generate` that say what a set is, for other commands: the recipe, and every
    flag but those of what runs the workers."""
    keys = keys_of_flags(generate)
    names = {name for name, key in keys.items() if not key.startswith("execution.")}
    return [option for option in generate.params if option.name in {*names, "recipe", "overrides"}]


def pixel_options() -> list[click.Parameter]:
    """Those of them that decide pixels: all but how many views there are, and in which shards."""
    keys = keys_of_flags(generate)
    left_out = ("shards.", "views.per_subject", "views.paired")
    return [
        option
        for option in options_of_set()
        if not keys.get(str(option.name), "").startswith(left_out)
    ]


def _print_rates(config: "GenerateConfig", out: str, origin: str) -> None:
    """Rates of batch sizes, for a user who gives one."""
    from manifests.storage import open_store
    from pipeline.ingredients import resolve, time_batches

    ingredients = resolve(config, open_store(out), origin=origin)
    for size, rate in time_batches(ingredients):
        click.echo(f"batch size {size}: {rate:,.2f} views/s")


def _says_nothing_of_a_set(keys: dict[str, Any]) -> bool:
    """Whether no flag says what to render, so that the recipe in the set has to.

    Flags of the table [execution] change no byte of a set.
    """
    return not any(
        value is not None and not key.startswith("execution.") for key, value in keys.items()
    )
