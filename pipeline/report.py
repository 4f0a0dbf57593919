"""One self-contained HTML file about a set and what was learned from it."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from rich.filesize import decimal

from manifests.canonical import document_bytes
from manifests.columns import Value, of_scope
from manifests.foundation.messages import printable
from manifests.recipe import Identity
from manifests.shard_set import ShardSet
from pipeline.charts import Chart, chart
from pipeline.diversity import MEASURE, between_groups, within_groups
from pipeline.group_cards import Card, cards, headings, num_across
from pipeline.learned import Run, Score, runs_of, scores_in
from pipeline.overview import overview, spread, statistics_of
from pipeline.sampling import take_sample
from pipeline.throughput import MAX_HOSTS, by_host, by_time
from pipeline.wording import variation_name

MAX_MEASURED = 48
"""Groups whose distances are measured; their pictures are read even if fewer are shown."""
MAX_STATISTICS = 400
"""Shards whose statistics are read for the rate by time."""


def write_report(
    shards: ShardSet,
    *,
    num_groups: int,
    runs: Sequence[Path] = (),
    scores: Sequence[Path] = (),
) -> str:
    """The report as HTML.

    Args:
        num_groups: Groups to show at most: a fair draw of those that are read, the same every time.
        runs: Folders of runs that learned from the set, or folders of such folders.
        scores: Files of scores, or folders of them, beside those in the runs.

    Raises:
        CorruptError: A manifest, the seal or a file of a run is damaged.
        ForeignSetError: A run learned from another set.
    """
    identity, seal = shards.recipe.identity, shards.seal()
    learned = runs_of(runs, root_sha256=seal.root_sha256 if seal else None)
    of_runs = [run / "scores" for run, _ in learned if (run / "scores").is_dir()]
    summary = overview(shards)
    sample = take_sample(shards, seal, num_groups=max(num_groups, MAX_MEASURED))
    measured = cards(shards, sample.groups)
    committed = shards.committed()
    timed = spread(committed, MAX_STATISTICS)
    stats = statistics_of(shards, timed)
    names = [variation_name(variation) for variation in identity.variations]
    what_varies, columns = headings(identity.variations)
    counted = [column for column in of_scope(identity.columns, "view") if column.type == "int64"]
    num_failed = summary.num_views - summary.num_ok
    return _template().render(
        url=shards.store.url,
        identity=identity,
        summary=summary,
        root=seal.root_sha256 if seal else None,
        sample=sample,
        is_sampled=len(sample.shards) < len(committed),
        num_timed=len(stats),
        what_varies=what_varies,
        columns=columns,
        settings=_settings(identity),
        cards=_drawn(measured, num_groups),
        num_across=num_across(identity.views_per_subject),
        num_groups_made=summary.num_views // identity.views_per_subject,
        diversity=_diversity(measured, names, columns, what_varies),
        measure=MEASURE,
        by_variation=[
            (name, sample.counts.get((number, "ok"), 0), sample.counts.get((number, "failed"), 0))
            for number, name in enumerate(names)
        ],
        failures=[(row, names[row.view_index % len(names)]) for row in sample.failures],
        num_failed=num_failed,
        num_failed_read=sum(sample.reasons.values()),
        totals=[(column, sample.totals[column.name]) for column in counted],
        speed=_speed(stats, len(stats) / max(len(committed), 1)) if stats else None,
        hosts=by_host(stats)[:MAX_HOSTS],
        runs=[(run, _losses(run), _scores(run)) for _, run in learned],
        scores=_by_test(scores_in([*of_runs, *scores])),
        own={run.name for _, run in learned},
        recipe=document_bytes(identity.to_json()).decode(),
        environment=document_bytes(dict(shards.recipe.environment)).decode(),
    )


def _drawn(groups: Sequence[Card], count: int) -> list[Card]:
    """A fair draw of some groups, in their order: ids are hashes of the subjects."""
    ids = sorted(card.tiles[0].row.group_id for card in groups)[:count]
    return [card for card in groups if card.tiles[0].row.group_id in ids]


def _template() -> jinja2.Template:
    folder = resources.files("pipeline.templates")
    loader = jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    # Captions may hold marks that turn the direction of writing, also that of what is beside them.
    environment.filters["plain"] = lambda text: printable(str(text))
    environment.filters["size"] = decimal
    return environment.get_template("report.html.j2")


def _settings(identity: Identity) -> list[tuple[str, Value]]:
    """What is the same for all views, as the renderer declares it."""
    return [
        (name.replace("_", " "), value)
        for name, value in identity.constants.items()
        if value != "" and value is not None
    ]


def _diversity(
    groups: Sequence[Card], names: Sequence[str], columns: Sequence[str], what_varies: str
) -> dict[str, Any] | None:
    """Distances by variation, and their chart if several have them; None if none has."""
    views = [
        (card.index, tile.row.view_index % len(names), tile.thumbnail)
        for card in groups
        for tile in card.tiles
        if tile.thumbnail is not None
    ]
    within, between = within_groups(views), between_groups(views)
    if not within:
        return None
    lines = [("within a group", within), ("between groups", between)]
    plotted: Chart | None = None
    if len(within) > 1:
        plotted = chart(
            [
                (
                    name,
                    [
                        (float(number), one.mean, one.error, f"{columns[number]}: {one.mean:.1f} %")
                        for number, one in sorted(distances.items())
                    ],
                )
                for name, distances in lines
                if distances
            ],
            x_name=what_varies,
            y_name="distance, %",
            x_ticks=[(float(number), columns[number]) for number in sorted(within)],
        )
    return {
        "chart": plotted,
        "rows": [(names[n], within[n], between.get(n)) for n in sorted(within)],
        "num_groups": max(one.num_groups for one in within.values()),
    }


def _speed(stats: Sequence[Mapping[str, Any]], share: float) -> Chart:
    width, rates = by_time(stats, share=share)
    size, unit = next(
        (size, unit)
        for size, unit in ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
        if width * len(rates) >= 2 * size or size == 1.0
    )
    values = [(middle / size, rate, 0.0, f"{rate:,.1f} views/s") for middle, rate in rates]
    return chart(
        [("views/s", values)],
        x_name=f"{unit} since the start",
        y_name="views/s",
        are_bars=True,
    )


def _losses(run: Run) -> Chart | None:
    points = [(step, loss, 0.0, f"step {step:,.0f}: {loss:.3f}") for step, loss in run.losses]
    return _curve("loss", points)


def _scores(run: Run) -> Chart | None:
    points = [
        (step, 100 * score, 0.0, f"step {step:,.0f}: {100 * score:.1f} %")
        for step, score in run.scores
    ]
    return _curve("k-NN, %", points)


def _curve(name: str, points: Sequence[tuple[float, float, float, str]]) -> Chart | None:
    if len(points) < 2:
        return None
    return chart([(name, points)], x_name="step", y_name=name, from_zero=False)


def _by_test(scores: Sequence[Score]) -> list[tuple[str, float, list[Score]]]:
    """Scores of each test, the best first, and where the axis of the test ends."""
    tests: dict[str, list[Score]] = {}
    for score in scores:
        tests.setdefault(score.test, []).append(score)
    return [
        (
            test,
            max(0.01, min(1.0, 1.08 * max(score.high for score in of_test))),
            sorted(of_test, key=lambda score: -score.value),
        )
        for test, of_test in tests.items()
    ]
