"""`synth generate`: captions in, shards and manifests out."""

from pathlib import Path
from typing import Any

import click


def _numbers(ctx: click.Context, option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError as exc:
        raise click.BadParameter("expected numbers separated by commas, such as 1,3,8") from exc


def _size(ctx: click.Context, option: click.Parameter, text: str | None) -> Any:
    if text is None or text == "auto":
        return text
    try:
        return int(text)
    except ValueError as exc:
        raise click.BadParameter("expected auto or a number") from exc


@click.command()
@click.option(
    "--prompts", "prompts_file", help="Captions: .txt .csv .tsv .jsonl .parquet, path or URL."
)
@click.option("--caption-column", help="Column of the captions.  [default: caption]")
@click.option("--out", required=True, help="Folder of the set; an existing one is gone on with.")
@click.option("--renderer", help="What renders.  [default: text-to-image]")
@click.option("--model", help="'embedded', a diffusers folder, or hub id[@revision].")
@click.option("--images-per-prompt", type=int, help="Views of each prompt.  [default: 10]")
@click.option(
    "--guidance", callback=_numbers, help="One scale, or several shared out: 1,3,8.  [default: 2]"
)
@click.option("--steps", type=int, help="Denoising steps.  [default: the pipeline's]")
@click.option("--size", type=int, help="Width and height rendered, px.  [default: the model's]")
@click.option("--store-size", type=int, help="Width and height stored, px.  [default: as rendered]")
@click.option("--seed", type=int, help="Seed of the whole set.  [default: 0]")
@click.option("--prompts-per-shard", type=int, help="[default: 100]")
@click.option("--batch-size", callback=_size, help="Views computed at once.  [default: auto]")
@click.option("--executor", help="ray or inline.  [default: ray]")
@click.option("--workers", type=int, help="[default: one a GPU, or one a core]")
@click.option("--ray-address", help="local, auto or HOST:PORT.  [default: local]")
@click.option(
    "--recipe", type=click.Path(path_type=Path), help="TOML file with any of these and more."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any key of a recipe.")
@click.option("--retry-failed", is_flag=True, help="Try shards again that were given up.")
@click.option(
    "--seal-incomplete", is_flag=True, help="Seal although shards are missing, naming them."
)
def generate(
    out: str,
    recipe: Path | None,
    overrides: tuple[str, ...],
    retry_failed: bool,
    seal_incomplete: bool,
    **flags: Any,
) -> None:
    """Render views of captions into shards and manifests.

    The same command again goes on where it stopped. Exit status 3 means that some shards were
    given up; they are named, and --retry-failed tries them again.
    """
    from rich.console import Console

    from manifests.foundation.progress import progress
    from pipeline.config import load_config
    from pipeline.generating import begin, finish, run
    from pipeline.retrying import ShardFailure

    keys = {
        "prompts.file": flags["prompts_file"],
        "prompts.caption_column": flags["caption_column"],
        "views.per_prompt": flags["images_per_prompt"],
        "views.guidance": flags["guidance"],
        "views.seed": flags["seed"],
        "renderer.name": flags["renderer"],
        "renderer.model": flags["model"],
        "renderer.steps": flags["steps"],
        "renderer.size_px": flags["size"],
        "renderer.batch_size": flags["batch_size"],
        "image.size_px": flags["store_size"],
        "shards.prompts": flags["prompts_per_shard"],
        "execution.executor": flags["executor"],
        "execution.workers": flags["workers"],
        "execution.ray_address": flags["ray_address"],
    }
    console = Console(stderr=True)
    config = load_config(recipe=recipe, overrides=overrides, flags=keys)
    generation = begin(config, out, retry_failed=retry_failed, origin=str(recipe or "recipe"))
    for change in generation.drift:
        console.print(f"note: {change}; pixels may differ in their last bits")
    identity = generation.shards.recipe.identity
    total = identity.num_prompts * identity.images_per_prompt
    left = sum(len(identity.prompts_in(shard)) for shard in generation.todo)
    with progress("generate", "views", total, total - left * identity.images_per_prompt) as advance:
        for outcome in run(generation):
            if isinstance(outcome, ShardFailure):
                console.print(f"shard {outcome.shard} was given up: {outcome.errors[-1]}")
            else:
                advance(outcome.num_views)
    seal = finish(generation, seal_incomplete=seal_incomplete)
    url = generation.shards.store.url
    if seal is not None:
        counts = seal.counts
        click.echo(
            f"{url}: {counts['num_ok']:,} views in {counts['num_shards']:,} shards, "
            f"{counts['num_failed']:,} failed, {len(seal.missing)} shards missing, root "
            f"{seal.root_sha256[:16]}"
        )
    elif given_up := generation.shards.given_up():
        names = ", ".join(str(shard) for shard in given_up[:20])
        click.echo(
            f"{url}: {len(given_up)} shards were given up: {names}; --retry-failed tries them "
            "again, --seal-incomplete seals without them",
            err=True,
        )
        raise SystemExit(3)
