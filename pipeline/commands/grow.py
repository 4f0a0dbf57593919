"""`synth grow`: a larger set from a sealed one, which renders only what is missing."""

from typing import Any

import click

from pipeline.commands.flags import execution_flags, flag, making_options, values_by_key


@click.command(
    epilog="\b\nExamples:\n"
    "  synth grow set --views-per-subject 20 --out larger\n"
    "  synth grow s3://bucket/set --prompts more.txt --out s3://bucket/larger"
)
@click.argument("old", metavar="SET")
@click.option("--out", required=True, help="Folder or bucket of the grown set.")
@click.option("--views-per-subject", type=click.IntRange(1), help="Views of each subject.")
@flag(
    "--prompts",
    "prompts.file",
    help="More captions: .txt .csv .tsv .jsonl .parquet, path or URL.",
)
@flag("--caption-column", "prompts.caption_column", help="Column of the captions.")
@click.option(
    "--subjects-per-shard",
    type=click.IntRange(1),
    help="Subjects in one shard. If not given, as many as in SET.",
)
@click.option("--model", help="Where the model lies today, if it is not where SET says.")
@execution_flags
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="A key of the tables [prompts] or [execution] of a recipe.",
)  # fmt: skip
@click.option(
    "--trust", multiple=True, metavar="MODULE:CLASS",
    help="Render with this plug-in of somebody else, which the set names.",
)  # fmt: skip
@click.option(
    "--accept-drift", is_flag=True,
    help="Go on where a view of SET has other bytes when it is rendered here.",
)  # fmt: skip
@making_options
def grow(
    old: str,
    out: str,
    overrides: tuple[str, ...],
    views_per_subject: int | None,
    subjects_per_shard: int | None,
    model: str | None,
    trust: tuple[str, ...],
    accept_drift: bool,
    max_failed: float,
    share: str | None,
    retry_failed: bool,
    seal_incomplete: bool,
    **flags: Any,
) -> None:
    """Make a new set of the sealed SET with more views of each subject, or more subjects.

    Its views are taken as they are, and only what is missing is rendered, also the shards that SET
    was sealed without. SET stays as it is, and the new set does not need it. The same command
    resumes.
    """
    from manifests.foundation.messages import counted, redact
    from pipeline.commands.making import make, require_shareable
    from pipeline.commands.stopping import stopping
    from pipeline.config import load_config
    from pipeline.growing import Growth, begin_growth

    part = require_shareable(share, seal_incomplete)
    for override in overrides:
        if not override.startswith(("prompts.", "execution.")):
            raise click.UsageError(
                f"--set {override}: all but [prompts] and [execution] is as in the set that grows; "
                "leave it out"
            )
    config = load_config(recipe=None, overrides=overrides, flags=values_by_key(flags))
    if config.prompts.get("file") == "-":
        raise click.UsageError(
            "--prompts -: the same command could not resume, because standard input is read once; "
            "give a file"
        )
    is_prompted = len(config.prompts) > 1 or any(one.startswith("prompts.") for one in overrides)
    growth = Growth(
        views_per_subject=views_per_subject,
        subjects_per_shard=subjects_per_shard,
        prompts=config.prompts if is_prompted else None,
    )
    with stopping(out) as kept:
        generation, num_taken = begin_growth(
            old,
            out,
            growth,
            config.execution,
            model=model,
            accept_drift=accept_drift,
            retry_failed=retry_failed,
            share=part,
            trusted=trust,
        )
        num_views = generation.shards.recipe.identity.num_views
        click.echo(
            f"plan: {counted(num_views, 'view')}, of which {num_taken:,} are taken from "
            f"{redact(old)} and {num_views - num_taken:,} rendered",
            err=True,
        )
        make(
            generation,
            part,
            kept,
            seal_incomplete=seal_incomplete,
            max_failed=max_failed,
            verb="grow",
        )
