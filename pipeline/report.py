"""One self-contained HTML file about a set: pictures first, then counts, failures and recipe."""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
from PIL import Image

from manifests.canonical import document_bytes
from manifests.columns import Value, of_scope
from manifests.errors import CorruptError
from manifests.recipe import Identity
from manifests.rows import ViewRow
from manifests.shard_set import ShardSet
from pipeline.encoding import decode
from pipeline.overview import overview

THUMBNAIL_PX = 128
MAX_VIEWS_PER_VARIATION = 6
MAX_FAILURES = 50
MAX_VARIATIONS = 12
"""Columns of the contact sheet; more would not fit on a screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One view in the contact sheet."""

    row: ViewRow
    picture: str
    """The image as a data URL, or empty."""
    fault: str
    """Why there is no picture, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the contact sheet: a group, or in a paired set one draw of a group."""

    text: str
    note: str
    """Label of the group; in a paired set the seed that the views of this row share."""
    cells: Sequence[Sequence[Cell]]
    """The cells of each variation, in the order of the recipe."""


def write_report(shards: ShardSet, *, num_groups: int) -> str:
    """The report as HTML.

    Args:
        num_groups: Groups to show at most: a fair draw of the committed ones, the same every time.

    Raises:
        CorruptError: A manifest or the seal is damaged.
    """
    identity = shards.recipe.identity
    names = [variation_name(variation) for variation in identity.variations]
    counts: Counter[tuple[int, str]] = Counter()
    reasons: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    failures: list[ViewRow] = []
    drawn: dict[int, tuple[int, list[ViewRow]]] = {}
    # Such as the number of tokens that were cut: views with a count other than 0 are totalled.
    counted = [column for column in of_scope(identity.columns, "view") if column.type == "int64"]
    for shard, group in _groups(shards):
        for row in group:
            # Variations are dealt to views in turn, so the index of a view says which one it has.
            counts[row.view_index % len(names), row.status] += 1
            for column in counted:
                totals[column.name] += row.values[column.name] != 0
            if not row.is_ok:
                reasons[row.reason] += 1
                failures = [*failures, row][:MAX_FAILURES]
        # Ids are hashes of the subjects, so the groups with the smallest ids are a fair draw, and
        # no more than these have to be held in memory.
        drawn[group[0].group_id] = shard, group
        if len(drawn) > num_groups:
            del drawn[max(drawn)]
    seal = shards.seal()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        resources.files("pipeline.templates").joinpath("report.html.j2").read_text("utf-8")
    )
    groups = sorted(drawn.values(), key=lambda group: group[1][0].key)
    return template.render(
        url=shards.store.url,
        identity=identity,
        summary=overview(shards),
        root=seal.root_sha256 if seal else None,
        variations=names[:MAX_VARIATIONS],
        by_variation=[
            (name, counts[number, "ok"], counts[number, "failed"])
            for number, name in enumerate(names)
        ],
        lines=[line for shard, group in groups for line in _lines(shards, identity, shard, group)],
        failures=[(row, names[row.view_index % len(names)]) for row in failures],
        reasons=sorted(reasons.items()),
        num_ok=sum(count for (_, status), count in counts.items() if status == "ok"),
        num_failed=sum(reasons.values()),
        totals=[(column, totals[column.name]) for column in counted],
        constants={name: value for name, value in identity.constants.items() if value != ""},
        recipe=document_bytes(identity.to_json()).decode(),
        environment=document_bytes(dict(shards.recipe.environment)).decode(),
    )


def variation_name(variation: Mapping[str, Value]) -> str:
    """A variation as a heading.

    Examples: "guidance_scale 2"; "seed" for a set whose views differ in their seeds alone.
    """
    parts = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in variation.items()
    ]
    return ", ".join(parts) or "seed"


def _groups(shards: ShardSet) -> Iterator[tuple[int, list[ViewRow]]]:
    """Shard and rows of each committed group. The rows of a group are adjacent in a manifest."""
    for shard in shards.committed():
        group: list[ViewRow] = []
        for row in shards.manifest(shard).rows:
            if group and row.group_id != group[0].group_id:
                yield shard, group
                group = []
            group.append(row)
        if group:
            yield shard, group


def _lines(
    shards: ShardSet, identity: Identity, shard: int, group: Sequence[ViewRow]
) -> Iterator[Line]:
    """The rows that show one group: one, or in a paired set one for each draw."""
    num_variations = len(identity.variations)
    by_variation = [
        [row for row in group if row.view_index % num_variations == number]
        for number in range(min(num_variations, MAX_VARIATIONS))
    ]
    columns = [
        [_cell(shards, shard, row) for row in rows[:MAX_VIEWS_PER_VARIATION]]
        for rows in by_variation
    ]
    text, label = group[0].text, group[0].label
    if not identity.paired:
        yield Line(text=text, note=label, cells=columns)
        return
    for draw, cells in enumerate(zip(*columns, strict=False)):
        note = f"seed {cells[0].row.seed}"
        yield Line(text="" if draw else text, note=note, cells=[[cell] for cell in cells])


def _cell(shards: ShardSet, shard: int, row: ViewRow) -> Cell:
    if not row.is_ok:
        return Cell(row=row, picture="", fault=row.reason)
    try:
        return Cell(row=row, picture=_picture(shards, shard, row), fault="")
    except CorruptError:  # `synth verify` says more
        return Cell(row=row, picture="", fault="damaged")


def _picture(shards: ShardSet, shard: int, row: ViewRow) -> str:
    """A view as a data URL: the stored bytes, or a thumbnail of a large picture."""
    data, kind = shards.image(shard, row), row.format.replace("jpg", "jpeg")
    # Decoded also where the stored bytes are shown, so that a damaged picture is told here and is
    # not a broken image in the browser.
    pixels = decode(data, where=row.key)
    if max(pixels.shape) > THUMBNAIL_PX:
        image = Image.fromarray(pixels)
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=85)
        data, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
