"""A few subjects in every variation, with equal noise, before a set is begun. Nothing is stored."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manifests.columns import Value
from manifests.foundation.messages import one_line
from manifests.plan import ViewRequest, requests_of
from manifests.rows import SubjectRow
from pipeline.batching import batches
from pipeline.config import GenerateConfig
from pipeline.contact_sheet import SheetRow, contact_sheet
from pipeline.encoding import decode
from pipeline.errors import ShardError
from pipeline.ingredients import Ingredients, freeze
from pipeline.job import ViewPipeline
from pipeline.renderers import renderer_class
from pipeline.rendering import render_checked
from pipeline.views import RenderedView
from pipeline.wording import title_of, variation_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Views that were rendered, and how long it took."""

    requests: Sequence[ViewRequest]
    """By subject, then by draw, then by variation, as in a paired set."""
    tiles: Mapping[str, NDArray[np.uint8] | str]
    """By key of the request: pixels as they would be stored, or why there are none."""
    variations: Sequence[Mapping[str, Value]]
    model: str
    first_s: float
    """Seconds of the first batch, in which the model is loaded."""
    view_s: float
    """Seconds of rendering for one view: the mean of the batches after the first, or of the only
    one with the loading in it."""


def for_preview(config: GenerateConfig, *, num_subjects: int) -> GenerateConfig:
    """The recipe with batches no larger than a preview can fill, unless the user gave their size.

    The last bits of floats depend on the size of a batch, so pixels may differ in theirs from those
    of the set.
    """
    fields = renderer_class(str(config.renderer["name"])).Config.model_fields
    if "batch_size" not in fields or "batch_size" in config.renderer:
        return config
    return config.model_copy(
        update={"renderer": {**config.renderer, "batch_size": min(16, num_subjects)}}
    )


def render_preview(
    ingredients: Ingredients, *, num_subjects: int, num_draws: int, on_views: Callable[[int], None]
) -> Preview:
    """Render every variation of some subjects; views of one draw share their noise.

    Args:
        ingredients: Probed ones.
        num_subjects: Subjects at most, spread over all of them.
        num_draws: Draws of the noise for each subject.
        on_views: Called with the number of views of each batch that was rendered.
    """
    pipeline = ingredients.view_pipeline
    identity = freeze(ingredients)
    num_views = num_draws * len(identity.variations)
    paired = replace(identity, paired=True, views_per_subject=num_views, subjects_per_shard=1)
    requests = requests_of(paired, _spread(ingredients.subjects, num_subjects))
    renderer = pipeline.renderer
    tiles: dict[str, NDArray[np.uint8] | str] = {}
    spent: list[tuple[float, int]] = []
    try:
        for batch in batches(requests, renderer.batch_size, renderer.batch_key):
            start = time.perf_counter()
            tiles.update(_render(pipeline, batch, identity.renderer))
            spent.append((time.perf_counter() - start, len(batch)))
            on_views(len(batch))
    finally:
        renderer.release()
    timed = spent[1:] or spent
    return Preview(
        requests=requests,
        tiles=tiles,
        variations=identity.variations,
        model=identity.model,
        first_s=spent[0][0],
        view_s=sum(seconds for seconds, _ in timed) / sum(count for _, count in timed),
    )


def _spread(subjects: Sequence[SubjectRow], count: int) -> list[SubjectRow]:
    count = min(count, len(subjects))
    return [subjects[number * len(subjects) // count] for number in range(count)]


def _render(
    pipeline: ViewPipeline, batch: Sequence[ViewRequest], name: str
) -> dict[str, NDArray[np.uint8] | str]:
    """What each request of one batch gives; one that fails does not take others with it."""
    try:
        views = render_checked(pipeline.renderer, batch, name)
    except ShardError as exc:
        if len(batch) == 1:
            return {batch[0].key: one_line(exc)}
        return {k: t for one in batch for k, t in _render(pipeline, [one], name).items()}
    return {
        request.key: _tile(pipeline, request, view)
        for request, view in zip(batch, views, strict=True)
    }


def _tile(
    pipeline: ViewPipeline, request: ViewRequest, view: RenderedView
) -> NDArray[np.uint8] | str:
    if not view.is_drawn:
        return "not drawn"
    for name, audit in pipeline.audits.items():
        if audit.refuses(request, view):
            return f"refused: {name}"
    return decode(pipeline.encoder.encode(view.pixels), where=request.key)


def sheet(preview: Preview) -> bytes:
    """The preview as a PNG: variations in columns, or draws where there is one variation."""
    num_variations = len(preview.variations)
    by_subject: dict[int, list[ViewRequest]] = {}
    for request in preview.requests:
        by_subject.setdefault(request.subject.group_index, []).append(request)
    rows: list[SheetRow] = []
    headings = [variation_name(variation) for variation in preview.variations]
    for requests in by_subject.values():
        label = title_of(requests[0].subject)
        per_row = len(requests) if num_variations == 1 else num_variations
        for start in range(0, len(requests), per_row):
            line = requests[start : start + per_row]
            rows.append(
                SheetRow(
                    label="" if start else label,
                    note=f"seed {line[0].seed}" if num_variations > 1 else "",
                    tiles=[preview.tiles[request.key] for request in line],
                )
            )
    if num_variations == 1:
        num_draws = max(map(len, by_subject.values()))
        headings = [f"draw {number + 1}" for number in range(num_draws)]
    equal = "" if num_variations == 1 else ". The views of a row share their noise"
    return contact_sheet(headings, rows, footer=f"{preview.model}{equal}.")
