"""Several sealed sets of one recipe become one, in which each group is once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from manifests.columns import of_scope
from manifests.errors import IdentityError
from manifests.foundation.differences import differing_keys
from manifests.foundation.errors import ConfigError
from manifests.storage import open_store
from manifests.taking import SealedSet
from pipeline.assembling import Assembly, begin_assembly, require_complete, subjects_of
from prompts.merging import merge_subjects

PLAN_KEYS = frozenset({"num_subjects", "subjects_sha256", "subjects_per_shard"})
"""Keys of an identity in which sets of one recipe may differ: they decide no view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A merged set that was begun."""

    assembly: Assembly
    num_equal: int
    """Groups that came again in a later set, and are taken from the first that has them."""


def begin_merge(urls: Sequence[str], url: str) -> Merge:
    """Begin the set of all groups of some sets, in their order, or resume it.

    Shards have as many subjects as those of the first set.

    Args:
        urls: Two sealed sets or more.

    Raises:
        ConfigError: One set alone, or one that lacks shards.
        IdentityError: Two differ in what decides their views; the message names the keys.
        ConflictingLabelError: Two have other labels for one subject.
        SynthError: As `SealedSet.open` and `begin_assembly`.
    """
    store = open_store(url)
    store.require_creatable()
    sets = [SealedSet.open(one) for one in urls]
    if len(sets) < 2:
        raise ConfigError("one set alone is merged with nothing; give two or more")
    first = sets[0]
    for other in sets:
        require_complete(other)
        require_same_recipe(first, other)
    columns = of_scope(first.identity.columns, "subject")
    subjects = merge_subjects(chain.from_iterable(map(subjects_of, sets)), columns)
    assembly = begin_assembly(sets, store, subjects, subjects.first_rows, verb="merge")
    num_groups = sum(one.identity.num_subjects for one in sets)
    return Merge(assembly=assembly, num_equal=num_groups - len(subjects))


def require_same_recipe(first: SealedSet, other: SealedSet) -> None:
    """Refuse sets whose views were made in different ways. Raises IdentityError."""
    one, two = (
        {key: value for key, value in sealed.identity.to_json().items() if key not in PLAN_KEYS}
        for sealed in (first, other)
    )
    if keys := differing_keys(one, two):
        grow = "; `synth grow` makes views equal" if keys == ["views_per_subject"] else ""
        if keys == ["renderer_identity.batch_size"]:  # chosen by the size of the first shards
            grow = "; give both the same --batch-size when they are made"
        raise IdentityError(
            f"{other.shards.store.url}: was made in another way than {first.shards.store.url}; "
            f"these keys differ: {', '.join(keys)}. One set has one recipe{grow}; `synth train "
            "mix:FILE` learns from several"
        )
