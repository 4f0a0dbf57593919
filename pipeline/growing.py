"""A larger set from a sealed one: what is there is taken, what is missing is rendered.

The seed of a view depends on its group and its index alone, and new subjects come after the old
ones. So the grown set is the set that would have been made at once, with the same recipe, and the
old views are in it byte for byte. It is made and resumed as any other, by `generating`, with an
executor that begins with the shards that are taken whole.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manifests.columns import of_scope
from manifests.errors import CorruptError, IdentityError
from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import Table
from manifests.layout import RECIPE
from manifests.origin import Origin
from manifests.recipe import Identity
from manifests.rows import ViewRow
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.taking import SealedSet
from pipeline.assembling import assemble_all, require_apart, shared_environment, subjects_of
from pipeline.execution import Executor
from pipeline.generating import (
    Generation,
    absolute,
    drift_from,
    environment_here,
    generation_of,
    open_executor,
)
from pipeline.ingredients import can_render_here, read_subjects
from pipeline.job import Job, TakenFrom
from pipeline.machine_paths import recall, remember
from pipeline.retrying import ShardFailure
from pipeline.shard_report import ShardReport, Underway
from pipeline.share import Share
from pipeline.worker import ShardWorker
from prompts.merging import MergedSubjects, merge_subjects

NUM_LOOKED_AT = 20
"""Shards in which a good view is looked for, to be rendered again."""

NUM_TAKEN_AT_ONCE = 8
"""Whole shards that the driver takes at once, each with its images in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What the new set has more than the old one; None for as much as before."""

    views_per_subject: int | None = None
    subjects_per_shard: int | None = None
    prompts: Mapping[str, Any] | None = None
    """Table [prompts] of a recipe that names more subjects."""


def begin_growth(
    old_url: str,
    url: str,
    growth: Growth,
    execution: Mapping[str, Any],
    *,
    model: str | None = None,
    accept_drift: bool = False,
    retry_failed: bool = False,
    share: Share | None = None,
    trusted: Collection[str] = (),
) -> tuple[Generation, int]:
    """Begin the grown set, or resume it.

    Args:
        old_url: The sealed set.
        url: Where the grown set is, or is to be.
        execution: Table [execution] of a recipe.
        model: Folder or hub id of the model on this machine, if it is not where the recipe says.
        accept_drift: Begin although this machine renders a view of the old set with other bytes.
        retry_failed: Try shards again that were given up.
        share: Make this part of the plan alone.
        trusted: Dotted paths of plug-ins outside of this package that the user allows to run.

    Returns:
        What is left to be done, and how many of all views of the set are taken from the old one.

    Raises:
        ConfigError: There is nothing to grow, or less is asked for than is there.
        IdentityError: This machine would render other pixels than those of the old set, or another
            set lies at the URL.
        SynthError: Anything else is wrong; where it can be known in advance, it is raised before
            the first file is written.
    """
    store = open_store(url)
    store.require_creatable()
    executor = open_executor(execution, origin="recipe")
    old = SealedSet.open(old_url)
    require_apart([old], store)
    changes = recall(old.shards.recipe_sha256) | ({} if model is None else {"model": model})
    old_job = Job.from_recipe(
        old.shards.recipe, absolute(old_url), changes=changes, trusted=trusted
    )
    worker = ShardWorker(old.shards, old_job)  # refuses a machine with another renderer
    subjects = _subjects(old, old_job, growth.prompts)
    identity = _grown(old, growth, subjects)
    if not store.exists(RECIPE) and not accept_drift:
        _require_same_bytes(old, old_job, worker)
    environments = [old.shards.recipe.environment, environment_here()]
    shards = ShardSet.begin(
        store,
        identity,
        subjects,
        environment=shared_environment(environments),
        settings=old.shards.recipe.settings,
        origin=Origin(verb="grow", sets=(old.source,)),
    )
    remember(shards.recipe_sha256, changes)
    job = Job.from_recipe(shards.recipe, absolute(url), changes=changes, trusted=trusted)
    taking = TakenFrom(url=absolute(old_url), root_sha256=old.seal.root_sha256)
    generation = generation_of(
        shards,
        replace(job, taking=taking),
        _TakingFirst(executor, shards),
        retry_failed=retry_failed,
        share=share,
    )
    generation = replace(generation, drift=drift_from(old.shards.recipe.environment))
    return generation, old.seal.counts["num_views"]


class _TakingFirst:
    """Takes the shards that the old set holds whole; then another executor makes the others."""

    Config = Table

    def __init__(self, executor: Executor, shards: ShardSet) -> None:
        self._executor = executor
        self._shards = shards

    def run(
        self, shards: Sequence[int], job: Job
    ) -> Iterator[ShardReport | ShardFailure | Underway]:
        """An error while a shard is taken ends the job: it lies in the old set."""
        assert job.taking is not None
        taking, identity = job.taking.open(), self._shards.recipe.identity
        whole = [shard for shard in shards if taking.holds(identity, shard)]
        yield from assemble_all(self._shards, taking, whole, num_workers=NUM_TAKEN_AT_ONCE)
        if rest := sorted({*shards} - {*whole}):
            yield from self._executor.run(rest, job)


def _subjects(old: SealedSet, job: Job, prompts: Mapping[str, Any] | None) -> MergedSubjects:
    """The subjects of the old set in their order, then those that are new."""
    if prompts is not None:
        renderer = job.open_renderer()
        return read_subjects(prompts, renderer, origin="recipe", before=subjects_of(old))
    columns = of_scope(old.identity.columns, "subject")
    subjects = merge_subjects(subjects_of(old), columns)
    if subjects.sha256 != old.identity.subjects_sha256:
        raise CorruptError(
            f"{old.shards.store.url}: its plan is not that of its recipe; restore it from a copy"
        )
    return subjects


def _grown(old: SealedSet, growth: Growth, subjects: MergedSubjects) -> Identity:
    """The identity of the grown set. Raises ConfigError."""
    before, where = old.identity, old.shards.store.url
    views = growth.views_per_subject or before.views_per_subject
    if views < before.views_per_subject:
        raise ConfigError(
            f"{where}: has {before.views_per_subject} views of each subject, --views-per-subject "
            f"is {views}; a set grows and does not shrink"
        )
    new_subjects = len(subjects) - before.num_subjects
    if views == before.views_per_subject and not new_subjects and not old.seal.missing:
        raise ConfigError(
            f"{where}: has {before.num_subjects:,} subjects of {views} views already, so there is "
            "nothing to render; give more --views-per-subject, or --prompts with other captions"
        )
    return replace(
        before,
        views_per_subject=views,
        num_subjects=len(subjects),
        subjects_sha256=subjects.sha256,
        subjects_per_shard=growth.subjects_per_shard or before.subjects_per_shard,
    )


def _require_same_bytes(old: SealedSet, job: Job, worker: ShardWorker) -> None:
    """Render a view of the old set again and compare it: equal versions are recorded, not proved.

    Raises:
        IdentityError: Its row or its image is another one here.
    """
    if not worker.is_reproducible or not can_render_here(job.resources):
        return
    if (stored := _good_view(old)) is None:
        return
    shard, row = stored
    again = worker.render_again(shard, row)
    worker.release()  # a worker on this device needs the memory
    if again == row:
        return
    versions = "; ".join(drift_from(old.shards.recipe.environment)) or "the versions are the same"
    raise IdentityError(
        f"{old.shards.store.url}: its view {row.key} has other bytes when it is rendered here "
        f"({versions}); grow the set where it was made, or give --accept-drift"
    )


def _good_view(old: SealedSet) -> tuple[int, ViewRow] | None:
    """Shard and row of the first good view, if the first shards have one."""
    for summary in old.seal.shards[:NUM_LOOKED_AT]:
        for row in old.manifest(summary.shard).rows:
            if row.is_ok:
                return summary.shard, row
    return None
