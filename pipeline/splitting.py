"""A sealed set becomes several, each of which has a part of its groups.

The part of a group depends on its id alone, so no subject is in two parts, and none changes its
part when the set has grown.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from manifests.columns import of_scope
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import shortened
from manifests.ids import split_place
from manifests.origin import Part
from manifests.rows import SubjectRow
from manifests.storage import open_store
from manifests.taking import SealedSet
from pipeline.assembling import Assembly, begin_assembly, require_complete, subjects_of
from prompts.merging import MergedSubjects, merge_subjects

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_TOLERANCE = 1e-9
"""Of the sum of the shares: 0.7 + 0.2 + 0.1 is not 1 to a computer."""


def parse_parts(text: str, seed: int) -> list[Part]:
    """Parts from a text such as `train=0.9,val=0.1`.

    Example: the second of these parts has `start` 0.9 and `stop` 1.0.

    Raises:
        ConfigError: Not of this form, a name comes twice, or the shares do not add up to 1.
    """
    names, shares = [], []
    for word in text.split(","):
        name, _, number = word.strip().partition("=")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not _NAME.fullmatch(name) or not 0 < share < 1 or name in names:
            raise ConfigError(
                f"parts {shortened(text, 100)!r}: expected names and shares between 0 and 1, "
                "each name once, such as train=0.9,val=0.1"
            )
        names.append(name)
        shares.append(share)
    if abs(sum(shares) - 1) > _TOLERANCE:
        raise ConfigError(
            f"parts {shortened(text, 100)!r}: the shares add up to {sum(shares):g}, expected 1"
        )
    # Rounded, so that the bounds in the recipe are those that a person would write.
    stops = [*(round(stop, 12) for stop in [*accumulate(shares)][:-1]), 1.0]
    return [
        Part(name=name, seed=seed, start=start, stop=stop)
        for name, start, stop in zip(names, [0.0, *stops], stops, strict=False)
    ]


def begin_split(url: str, out: str, parts: Sequence[Part]) -> list[tuple[Part, Assembly]]:
    """Begin a set for each part, or resume them.

    Args:
        url: The sealed set.
        out: Folder or URL under which each part has a set of its own name.

    Raises:
        ConfigError: The set lacks shards, or a part would have no group.
        SynthError: As `SealedSet.open` and `begin_assembly`.
    """
    sealed = SealedSet.open(url)
    require_complete(sealed)
    seed, before = parts[0].seed, sealed.shards.recipe.origin
    if before is not None and before.part is not None and before.part.seed == seed:
        raise ConfigError(
            f"{url}: is a part of a set that was split with seed {seed}, which would not divide it "
            "by these shares; give another --seed"
        )
    places = np.fromiter(
        (split_place(seed, row.group_id) for row in sealed.shards.all_subjects()),
        np.float64,
        sealed.identity.num_subjects,
    )
    chosen = [np.flatnonzero((part.start <= places) & (places < part.stop)) for part in parts]
    for part, groups in zip(parts, chosen, strict=True):
        if not len(groups):
            raise ConfigError(
                f"{sealed.shards.store.url}: none of its {len(places):,} groups falls into "
                f"{part.name}; give it a larger share, or another --seed"
            )
    begun = []
    for part, groups in zip(parts, chosen, strict=True):
        store = open_store(f"{out.rstrip('/')}/{part.name}")
        store.require_creatable()
        plan = _plan(sealed, groups)
        begun.append((part, begin_assembly([sealed], store, plan, groups, verb="split", part=part)))
    return begun


def _plan(sealed: SealedSet, groups: NDArray[np.int64]) -> MergedSubjects:
    """Some subjects of a set, in its order."""

    def rows() -> Iterator[SubjectRow]:
        wanted = iter(groups)
        group = next(wanted, None)
        for row in sealed.shards.all_subjects():
            if row.group_index == group:
                yield row
                group = next(wanted, None)

    columns = of_scope(sealed.identity.columns, "subject")
    return merge_subjects(subjects_of(sealed, rows()), columns)
