"""What a report reads of a set: all of a small one, some shards and groups of a large one."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from manifests.columns import of_scope
from manifests.rows import ViewRow
from manifests.seal import Seal
from manifests.shard_set import ShardSet
from pipeline.overview import spread

MAX_SHARDS = 40
MAX_VIEWS = 40_000
"""Rows of manifests that are read, about."""
MAX_FAILING_SHARDS = 10
"""Shards with failed views that are read besides, where the seal says which they are."""
MAX_FAILURES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Rows of some committed shards, counted, and some of their groups."""

    shards: Sequence[int]
    num_views: int
    counts: Mapping[tuple[int, str], int]
    """Views by number of the variation and status."""
    reasons: Mapping[str, int]
    """Failed views by reason, the most frequent first."""
    licences: Mapping[str, int]
    """Groups by licence, the most frequent first; an empty text for those that state none."""
    kinds: Sequence[str]
    totals: Mapping[str, int]
    """By counting column, such as words that were cut: views with another number than 0."""
    failures: Sequence[ViewRow]
    groups: Sequence[tuple[int, Sequence[ViewRow]]]
    """Shard and rows of each chosen group, in the order of keys."""


def take_sample(shards: ShardSet, seal: Seal | None, *, num_groups: int) -> Sample:
    """Read some shards, spread evenly, and choose groups among theirs.

    Args:
        num_groups: Groups at most: a fair draw of those in the shards, the same every time.

    Raises:
        CorruptError: A manifest is damaged.
    """
    identity = shards.recipe.identity
    num_variations = len(identity.variations)
    per_shard = identity.subjects_per_shard * identity.views_per_subject
    count = max(1, min(MAX_SHARDS, MAX_VIEWS // per_shard))
    numbers = spread(shards.committed(), count)
    if seal is not None:
        failing = [line.shard for line in seal.shards if line.num_ok < line.num_views]
        limit = min(MAX_FAILING_SHARDS, max(1, MAX_VIEWS // per_shard))
        numbers = sorted({*numbers, *failing[:limit]})
    counts: Counter[tuple[int, str]] = Counter()
    reasons: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    failures: list[ViewRow] = []
    drawn: dict[int, tuple[int, list[ViewRow]]] = {}
    counted = [
        column.name for column in of_scope(identity.columns, "view") if column.type == "int64"
    ]
    totals.update(dict.fromkeys(counted, 0))
    for shard in numbers:
        for group in _groups(shards, shard):
            licences[group[0].licence] += 1
            kinds[group[0].kind] += 1
            for row in group:
                # Variations are dealt in turn, so the index of a view says which one it has.
                counts[row.view_index % num_variations, row.status] += 1
                totals.update({name: 1 for name in counted if row.values[name]})
                if not row.is_ok:
                    reasons[row.reason] += 1
                    if len(failures) < MAX_FAILURES:
                        failures.append(row)
            # Ids are hashes of the subjects, so the groups with the smallest ids are a fair draw,
            # and no more than these have to be held in memory.
            drawn[group[0].group_id] = shard, group
            if len(drawn) > num_groups:
                del drawn[max(drawn)]
    return Sample(
        shards=numbers,
        num_views=sum(counts.values()),
        counts=counts,
        reasons=dict(reasons.most_common()),
        licences=dict(licences.most_common()),
        kinds=[kind for kind, _ in kinds.most_common()],
        totals=totals,
        failures=failures,
        groups=sorted(drawn.values(), key=lambda group: group[1][0].key),
    )


def _groups(shards: ShardSet, shard: int) -> Iterator[list[ViewRow]]:
    """The rows of each group of a shard, which are adjacent in its manifest."""
    group: list[ViewRow] = []
    for row in shards.manifest(shard).rows:
        if group and row.group_id != group[0].group_id:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
