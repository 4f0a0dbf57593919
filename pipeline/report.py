"""One self-contained HTML file about a set: pictures first, then counts, failures and recipe."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
from PIL import Image

from manifests.canonical import document_bytes
from manifests.manifest import Manifest
from manifests.rows import ViewRow
from manifests.shard_set import ShardSet
from pipeline.encoding import decode
from pipeline.overview import overview

THUMBNAIL_PX = 128
MAX_VIEWS_PER_SCALE = 6
MAX_FAILURES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One view in the contact sheet."""

    row: ViewRow
    picture: str
    """Data URL, empty if the view failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One group in the contact sheet: its cells by guidance scale."""

    prompt: str
    label: str
    cells: Sequence[Sequence[Cell]]


def write_report(shards: ShardSet, *, num_groups: int) -> str:
    """The report as HTML. Shows a fair draw of the committed groups."""
    seen = overview(shards)
    identity = shards.recipe.identity
    manifests = [shards.manifest(shard) for shard in shards.committed()]
    scales = sorted(set(identity.guidance_scales))
    counts = Counter(
        (row.guidance_scale, row.status) for manifest in manifests for row in manifest.rows
    )
    failures = [row for manifest in manifests for row in manifest.rows if not row.is_ok]
    reasons = Counter(row.reason for row in failures)
    cut = sum(row.num_tokens_cut > 0 for manifest in manifests for row in manifest.rows)
    seal = shards.seal()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        resources.files("pipeline.templates").joinpath("report.html.j2").read_text("utf-8")
    )
    return template.render(
        url=shards.store.url,
        identity=identity,
        seen=seen,
        root=seal.root_sha256 if seal else None,
        scales=scales,
        by_scale=[(scale, counts[scale, "ok"], counts[scale, "failed"]) for scale in scales],
        lines=_contact_sheet(shards, manifests, scales, num_groups),
        failures=failures[:MAX_FAILURES],
        reasons=sorted(reasons.items()),
        num_failed=len(failures),
        num_cut=cut,
        recipe=document_bytes(identity.to_json()).decode(),
        environment=document_bytes(dict(shards.recipe.environment)).decode(),
    )


def _contact_sheet(
    shards: ShardSet, manifests: Sequence[Manifest], scales: Sequence[float], num_groups: int
) -> list[Line]:
    groups: dict[int, tuple[int, list[ViewRow]]] = {}
    for manifest in manifests:
        for row in manifest.rows:
            groups.setdefault(row.group_id, (manifest.shard, []))[1].append(row)
    # Ids are hashes, so the smallest ones are a fair draw, the same every time.
    drawn = set(sorted(groups)[:num_groups])
    chosen = [group for group_id, group in groups.items() if group_id in drawn]
    return [
        Line(
            prompt=rows[0].prompt,
            label=rows[0].label,
            cells=[
                [
                    Cell(row=row, picture=_picture(shards, shard, row))
                    for row in rows
                    if row.guidance_scale == scale
                ][:MAX_VIEWS_PER_SCALE]
                for scale in scales
            ],
        )
        for shard, rows in chosen
    ]


def _picture(shards: ShardSet, shard: int, row: ViewRow) -> str:
    if not row.is_ok:
        return ""
    data, kind = shards.image(shard, row), row.format.replace("jpg", "jpeg")
    if row.width_px > THUMBNAIL_PX:
        image = Image.fromarray(decode(data))
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=85)
        data, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
