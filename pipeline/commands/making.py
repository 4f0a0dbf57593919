"""What `generate` and `grow` have in common: make what is left, seal it, say what is made."""

from typing import TYPE_CHECKING

import click

from manifests.foundation.messages import counted

if TYPE_CHECKING:
    from manifests.seal import Seal
    from pipeline.commands.stopping import Kept
    from pipeline.generating import Generation
    from pipeline.share import Share

_MAX_NAMED = 20
"""Shards that the last line names at most."""


def require_shareable(share: str | None, seal_incomplete: bool) -> "Share | None":
    """The share of --share, which cannot be sealed without the others."""
    from pipeline.share import Share

    part = None if share is None else Share.parse(share)
    if part is not None and seal_incomplete:
        raise click.UsageError(
            "--seal-incomplete with --share would seal the set without the other shares; leave one "
            "out"
        )
    return part


def make(
    generation: "Generation",
    part: "Share | None",
    kept: "Kept",
    *,
    seal_incomplete: bool,
    max_failed: float,
    price: float | None = None,
    verb: str = "generate",
) -> None:
    """Make what is left of a set or of a share of it, seal it, and say what was made."""
    from contextlib import closing

    from rich.console import Console

    from manifests.foundation.messages import printable
    from manifests.foundation.progress import progress
    from pipeline.generating import committed_now, finish, run
    from pipeline.retrying import ShardFailure
    from pipeline.shard_report import Underway

    shards = generation.shards
    kept.num_kept = len(generation.committed)
    kept.num_shards = shards.layout.num_shards
    console = Console(stderr=True)
    for change in generation.drift:
        note = f"note: {change}; pixels may differ in their last bits"
        console.print(printable(note), markup=False)
    identity = shards.recipe.identity
    if generation.trial is not None:
        console.print(_plan_line(generation, price), markup=False, soft_wrap=True)
    # Shards that were given up count as done here, or the bar could never be full. So do those of
    # a share that are made already, and shards of other shares are not in it.
    subjects = sum(len(identity.subjects_in(shard)) for shard in generation.todo)
    left = subjects * identity.views_per_subject
    total = identity.num_views if part is None else left
    num_made_views = num_shown = 0
    underway: dict[int, int] = {}  # views of shards that are being made

    def show() -> None:
        nonlocal num_shown
        num_now = num_made_views + sum(underway.values())
        advance(num_now - num_shown)
        num_shown = num_now

    def look(news: Underway) -> None:
        underway.clear()
        underway.update(news.num_rendered)
        show()

    with (
        # Closed here and not by the garbage collector: after a signal it waits for its workers.
        closing(run(generation, max_failed=max_failed, on_underway=look)) as outcomes,
        progress(verb, "views", total, total - left) as advance,
    ):
        for outcome in outcomes:
            underway.pop(outcome.shard, None)
            if isinstance(outcome, ShardFailure):
                message = f"shard {outcome.shard} was given up: {outcome.errors[-1]}"
                console.print(printable(message), markup=False)
            else:
                kept.num_kept += 1
                num_made_views += outcome.num_views
                show()
    committed = committed_now(generation)  # listed once, of which a bucket needs many requests
    seal = finish(generation, committed, seal_incomplete=seal_incomplete)
    url = shards.store.url
    if seal is not None:
        click.echo(sealed_line(url, seal))
        return
    given_up = [*shards.given_up(committed)]
    if part is not None:
        given_up = [*part.of(given_up)]
    if given_up:
        names = ", ".join(str(shard) for shard in given_up[:_MAX_NAMED])
        click.echo(
            f"{url}: given up: {counted(len(given_up), 'shard')}, {names}; --retry-failed "
            "tries again, --seal-incomplete seals without",
            err=True,
        )
        raise SystemExit(3)
    if part is not None:
        left = shards.layout.num_shards - len(committed)
        click.echo(f"{url}: share {part} is made; left to others: {counted(left, 'shard')}")


def sealed_line(url: str, seal: "Seal") -> str:
    """What there is, when a set is sealed."""
    counts = seal.counts
    return (
        f"{url}: {counted(counts['num_ok'], 'view')} in {counted(counts['num_shards'], 'shard')}, "
        f"{counts['num_failed']:,} failed, {counted(len(seal.missing), 'shard')} missing, root "
        f"{seal.root_sha256[:16]}"
    )


def _plan_line(generation: "Generation", price: float | None) -> str:
    """What is about to be made, by estimate from the view that was tried."""
    from rich.filesize import decimal

    from pipeline.overview import duration

    identity, trial = generation.shards.recipe.identity, generation.trial
    assert trial is not None
    views = identity.num_views
    resources = generation.job.resources
    on_gpu = resources.device_type == "cuda"
    hours = views * trial.view_s / 3600 * (resources.gpus if on_gpu else 1)
    work = duration(hours, price if on_gpu else None)
    return (
        f"plan: {counted(views, 'view')} in {counted(identity.num_shards, 'shard')}; about "
        f"{decimal(int(views * trial.view_bytes))} and {work} of one "
        f"{'GPU' if on_gpu else 'CPU worker'}, estimated from one batch"
    )
