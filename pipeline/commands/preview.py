"""`synth preview`: a few prompts in every variation, with equal noise, in one picture."""

from pathlib import Path
from typing import Any

import click

from pipeline.commands.generate import config_of, pixel_options


@click.command(
    params=pixel_options(),
    epilog="\b\nExamples:\n"
    "  synth preview --prompts captions.txt --model embedded --guidance 1,2,4,8",
)
@click.option(
    "--subjects",
    "num_subjects",
    default=4,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Prompts at most, spread over all that are given.",
)
@click.option(
    "--draws",
    type=click.IntRange(1, 64),
    help="Draws of the noise for each prompt. If not given, 1, or 4 if nothing else varies.",
)
@click.option("--out", default="preview.png", show_default=True, help="PNG to write.")
def preview(
    num_subjects: int,
    draws: int | None,
    out: str,
    recipe: Path | None,
    overrides: tuple[str, ...],
    **flags: Any,
) -> None:
    """Render a few prompts in every variation to one picture, before a set is begun.

    Prompts in rows, variations in columns; the views of a row share their noise, so that they
    differ in the variation alone. Options and recipe are those of `synth generate`.
    """
    import tempfile
    from dataclasses import replace

    from manifests.foundation.files import local_path, write_output
    from manifests.foundation.messages import printable
    from manifests.foundation.progress import progress
    from manifests.storage import open_store
    from pipeline.ingredients import probe, resolve
    from pipeline.preview import for_preview, render_preview, sheet

    path = local_path(out, option="--out")
    config = for_preview(config_of(recipe, overrides, flags), num_subjects=num_subjects)
    with tempfile.TemporaryDirectory() as nowhere:  # a set that is not there freezes no value
        opened = resolve(config, open_store(nowhere), origin=str(recipe or "recipe"))
    num_variations = len(opened.view_pipeline.renderer.variations())
    # A recipe may deal another number of views, which a preview has no use for.
    views = config.views.model_copy(update={"per_subject": num_variations})
    config = config.model_copy(update={"views": views})
    ingredients = probe(replace(opened, config=config))
    num_draws = draws or (1 if num_variations > 1 else 4)
    count = min(num_subjects, len(ingredients.subjects))
    with progress("preview", "views", count * num_variations * num_draws) as advance:
        made = render_preview(
            ingredients, num_subjects=count, num_draws=num_draws, on_views=advance
        )
    write_output(path, sheet(made), option="--out")
    click.echo(
        printable(
            f"{out}: {len(made.requests)} views, {made.view_s:.3g} s a view on this machine; the "
            f"first batch took {made.first_s:.1f} s with loading"
        )
    )
