"""What a set will take, measured by rendering some of its batches before anything is begun."""

import math
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

from manifests.plan import ViewRequest, requests_of
from manifests.recipe import Identity
from manifests.storage.objects import PART_BYTES
from pipeline.batching import fill_up
from pipeline.errors import ModelError, ShardError
from pipeline.ingredients import TAR_BYTES_BESIDE_IMAGE, Ingredients, freeze
from pipeline.rendering import render_checked

REQUESTS_PER_SHARD = 7
"""To a bucket: its part of the plan is read, tar, statistics and manifest are created, and the seal
reads the last two, the statistics twice. A tar that is sent in parts takes more."""
NUM_CALIBRATED = 64
"""Subjects whose views are rendered, spread over the whole plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one worker does with the views of one variation."""

    variation: int
    render_s: float
    """Seconds of rendering for one view."""
    num_views: int
    """Views that were rendered to know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Measured with one worker on this machine."""

    rates: Sequence[Rate]
    """One for each variation."""
    encode_s: float
    """Seconds for encoding one view, while the next batch renders."""
    view_bytes: float
    """Of one view in a tar."""
    load_s: float
    """Seconds of the first batch beyond those of the next ones: loading, compiling."""

    @property
    def view_s(self) -> float:
        """Seconds of one worker for a view, as the mean over the variations."""
        render_s = sum(rate.render_s for rate in self.rates) / len(self.rates)
        return max(render_s, self.encode_s)


def calibrate(ingredients: Ingredients, *, seconds: float) -> Calibration:
    """Render full batches of each variation in turn for some time, and at least one of each.

    Args:
        ingredients: Probed ones.
        seconds: How long, without the first batch, which loads the model.

    Raises:
        ModelError: No batch can be rendered.
    """
    pipeline, identity = ingredients.view_pipeline, freeze(ingredients)
    renderer, encoder = pipeline.renderer, pipeline.encoder
    by_variation = _batches(ingredients, identity)
    spent: dict[int, list[float]] = defaultdict(list)
    encode_s, image_bytes = [], []
    errors: list[str] = []
    end = math.inf
    load_s = 0.0
    is_first = True
    try:
        for variation, batch in cycle(by_variation):
            is_timed_once = len(spent) == len(identity.variations)
            if (is_timed_once and time.perf_counter() > end) or len(errors) > len(by_variation):
                break
            start = time.perf_counter()
            try:
                views = render_checked(renderer, batch, identity.renderer)
            except ShardError as exc:
                errors.append(str(exc))
                continue
            rendered_s = time.perf_counter() - start
            if is_first:  # it is rendered again, and what it took longer is loading
                is_first, load_s = False, rendered_s
                start = time.perf_counter()
                views = render_checked(renderer, batch, identity.renderer)
                rendered_s = time.perf_counter() - start
                load_s = max(0.0, load_s - rendered_s)
                end = time.perf_counter() + seconds
            spent[variation].append(rendered_s / len(batch))
            start = time.perf_counter()
            image_bytes += [len(encoder.encode(view.pixels)) for view in views]
            encode_s.append((time.perf_counter() - start) / len(views))
    finally:
        renderer.release()
    if len(spent) < len(identity.variations):
        raise ModelError(
            f"renderer {identity.renderer}: {len(errors)} batches cannot be rendered, the first "
            f"because of {errors[0]}"
        )
    return Calibration(
        rates=[
            Rate(
                variation=variation,
                render_s=sum(times) / len(times),
                num_views=len(times) * renderer.batch_size,
            )
            for variation, times in sorted(spent.items())
        ],
        encode_s=sum(encode_s) / len(encode_s),
        view_bytes=sum(image_bytes) / len(image_bytes) + TAR_BYTES_BESIDE_IMAGE,
        load_s=load_s,
    )


def _batches(
    ingredients: Ingredients, identity: Identity
) -> Sequence[tuple[int, list[ViewRequest]]]:
    """Full batches with the number of their variation; variations follow each other."""
    renderer, subjects = ingredients.view_pipeline.renderer, ingredients.subjects
    count = min(NUM_CALIBRATED, len(subjects))
    chosen = [subjects[index * len(subjects) // count] for index in range(count)]
    draws = replace(identity, views_per_subject=len(identity.variations))
    by_key: dict[tuple[object, int], list[ViewRequest]] = {}
    for request in requests_of(draws, chosen):
        key = renderer.batch_key(request), request.view_index
        by_key.setdefault(key, []).append(request)
    size = renderer.batch_size
    rounds: dict[int, list[list[ViewRequest]]] = defaultdict(list)
    for (_, variation), requests in by_key.items():
        for start in range(0, len(requests), size):
            rounds[variation].append(fill_up(requests[start : start + size], size))
    longest = max(map(len, rounds.values()))
    return [
        (variation, batches[turn % len(batches)])
        for turn in range(longest)
        for variation, batches in rounds.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A whole set by its calibration, made by some workers."""

    identity: Identity
    calibration: Calibration
    workers: int

    @property
    def worker_hours(self) -> float:
        """Rendering, and one load of the model for each worker."""
        render_s = self.identity.num_views * self.calibration.view_s
        return (render_s + self.useful_workers * self.calibration.load_s) / 3600

    @property
    def useful_workers(self) -> int:
        """A shard is made by one worker, so more workers than shards do nothing."""
        return min(self.workers, self.identity.num_shards)

    @property
    def shard_s(self) -> float:
        """Seconds of one shard: what a worker that is killed loses at most."""
        views = self.identity.views_per_subject * self.identity.subjects_per_shard
        return min(views, self.identity.num_views) * self.calibration.view_s

    @property
    def hours(self) -> float:
        """From the first shard to the last, with all workers."""
        rounds = math.ceil(self.identity.num_shards / self.workers)
        return (rounds * self.shard_s + self.calibration.load_s) / 3600

    @property
    def tar_bytes(self) -> float:
        return self.identity.num_views * self.calibration.view_bytes

    @property
    def requests(self) -> int:
        """To a bucket, for shards alone: what a set takes beside them does not grow."""
        parts = math.ceil(self.tar_bytes / self.identity.num_shards / PART_BYTES)
        of_parts = parts + 2 if parts > 1 else 0  # begin, complete, and a look at what is there
        return self.identity.num_shards * (REQUESTS_PER_SHARD + of_parts)

    def workers_for(self, hours: float) -> int | None:
        """The least workers that make the set in so many hours; None if none can."""
        candidates = range(1, self.identity.num_shards + 1)
        # Hours do not grow with workers, so their negatives ascend, as bisection needs.
        place = bisect_left(candidates, -hours, key=lambda n: -replace(self, workers=n).hours)
        return candidates[place] if place < len(candidates) else None

    def views_for(self, hours: float) -> int:
        """Views of each subject that these workers make in so many hours: a multiple of the
        variations, and 0 if not even one of each."""
        step = len(self.identity.variations)
        share = max(0.0, hours) / self.hours
        return int(self.identity.views_per_subject * share) // step * step
