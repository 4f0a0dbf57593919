"""From a configuration to a set: begin it or resume it, make what remains, seal it.

`begin` takes all steps up to the first shard; `ingredients` has those before anything is written.
`rejoin` resumes a set that was begun, and needs neither captions nor a recipe file: the set holds
all it takes.
"""

import json
import os
import platform
from array import array
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manifests.errors import ForeignSetError
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import redact
from manifests.foundation.settings import check
from manifests.layout import RECIPE
from manifests.seal import Seal
from manifests.seal_writer import complete_sealed, seal_set
from manifests.shard_numbers import ShardNumbers
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from pipeline.config import DEFAULTS, GenerateConfig
from pipeline.errors import ExecutorError, TooManyFailedError
from pipeline.execution import Executor, executor_class
from pipeline.ingredients import Trial, freeze, probe, resolve, try_out
from pipeline.job import Job
from pipeline.machine_paths import published, recall, remember
from pipeline.retrying import ShardFailure
from pipeline.shard_report import ShardReport, Underway
from pipeline.share import Share
from pipeline.versions import versions_here

FIRST_SHARDS = 3
"""A run ends if so many shards are made and none holds a good view: the rest would be no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A set that was begun, and what remains to be done for it."""

    shards: ShardSet
    job: Job
    executor: Executor
    committed: ShardNumbers
    """Shards that were made before."""
    seal: Seal | None
    """Of a set that was sealed before: that of a large one is not read again."""
    todo: Sequence[int]
    """Shards that are neither committed nor given up, ascending."""
    drift: Sequence[str]
    """A line for each library whose version is not, or not known to be, the one that the set was
    begun with."""
    trial: Trial | None = None
    """What a view cost that was tried, if the set was begun just now."""


def begin(
    config: GenerateConfig,
    url: str,
    *,
    retry_failed: bool = False,
    share: Share | None = None,
    origin: str = "recipe",
) -> Generation:
    """Freeze the recipe and write the plan, or resume the set at `url` that has the same recipe.

    Args:
        config: The whole recipe.
        url: Where the set is, or is to be.
        retry_failed: Try shards again that were given up.
        share: Make this part of the plan alone.
        origin: Name of the recipe for messages, such as its file.

    Raises:
        SynthError: Anything is wrong; where it can be known in advance, it is raised before the
            first file is written.
    """
    # What costs nothing is checked before captions are read and a model is loaded and probed.
    store = open_store(url)
    store.require_creatable()
    executor = open_executor(config.execution, origin=origin)
    ingredients = probe(resolve(config, store, origin=origin))
    trial = None
    if not store.exists(RECIPE):
        trial = try_out(ingredients, absolute(url), config.execution.get("batch_deadline_s"))
    identity = freeze(ingredients)
    settings = ingredients.view_pipeline.settings()
    environment = _environment(config)
    shards = ShardSet.begin(
        store, identity, ingredients.subjects, environment=environment, settings=published(settings)
    )
    remember(shards.recipe_sha256, settings["renderer"])
    # The settings of this command win over those in the set: the model may lie in another folder
    # today. The user named renderer and audits in this very command, so they may run.
    named = {name for name in (identity.renderer, *identity.reasons) if ":" in name}
    job = Job.from_recipe(shards.recipe, absolute(url), changes=settings["renderer"], trusted=named)
    generation = generation_of(shards, job, executor, retry_failed=retry_failed, share=share)
    return replace(generation, trial=trial)


def rejoin(
    execution: Mapping[str, Any],
    url: str,
    *,
    retry_failed: bool = False,
    share: Share | None = None,
    trusted: Collection[str] = (),
) -> Generation:
    """Resume a set that was begun, from the recipe and the plan that it holds.

    Args:
        execution: Table [execution] of a recipe.
        url: Where the set is.
        retry_failed: Try shards again that were given up.
        share: Make this part of the plan alone.
        trusted: Dotted paths of plug-ins outside of this package that the user allows to run.

    Raises:
        SynthError: There is no set, or this machine cannot continue it.
    """
    store = open_store(url)
    store.require_creatable()
    executor = open_executor(execution, origin="recipe")
    try:
        shards = ShardSet(store)
    except ForeignSetError as exc:
        raise ConfigError(
            f"{store.url}: there is no set to resume, and no captions were given for a new one; "
            "give --prompts FILE or --recipe FILE"
        ) from exc
    changes = recall(shards.recipe_sha256)
    job = Job.from_recipe(shards.recipe, absolute(url), changes=changes, trusted=trusted)
    return generation_of(shards, job, executor, retry_failed=retry_failed, share=share)


def open_executor(execution: Mapping[str, Any], *, origin: str) -> Executor:
    """The executor of a recipe's table [execution]."""
    values = {**DEFAULTS["execution"], **execution}
    plugin = executor_class(str(values["executor"]))
    return plugin(check(plugin.Config, values, origin=origin, table="execution"))


def generation_of(
    shards: ShardSet, job: Job, executor: Executor, *, retry_failed: bool, share: Share | None
) -> Generation:
    seal = shards.seal()
    if retry_failed and seal is not None:
        raise ConfigError(
            f"{shards.store.url}: is sealed and does not change any more; --retry-failed is for a "
            "set that is still open"
        )
    todo: Sequence[int] = ()
    if seal is not None:  # it stays as it is, even if it was sealed with shards missing
        committed = ShardNumbers(shards.layout.num_shards, (line.shard for line in seal.shards))
    else:
        # Only manifests say what is made: a shard whose tar has no manifest is made again.
        committed = shards.committed()
        given_up = {} if retry_failed else shards.given_up(committed)
        left = (shard for shard in committed.missing() if shard not in given_up)
        todo = array("l", left if share is None else share.of(left))
    return Generation(
        shards=shards,
        job=job,
        executor=executor,
        committed=committed,
        seal=seal,
        todo=todo,
        drift=drift_from(shards.recipe.environment),
    )


def run(
    generation: Generation,
    *,
    max_failed: float = 1.0,
    on_underway: Callable[[Underway], None] = lambda underway: None,
) -> Generator[ShardReport | ShardFailure, None, None]:
    """Make the shards that are left, and yield the outcome of each.

    A shard that is given up leaves a note in `failed/`, which `synth status` reads.

    Args:
        max_failed: Share of all views of the set that may fail, 0 to 1.
        on_underway: Called with how far the other shards are, where the executor tells.

    Raises:
        TooManyFailedError: The first FIRST_SHARDS shards hold no good view, or more views have
            failed than may. The set stays open.
        CorruptError: The plan is not the one that the recipe was begun with.
    """
    num_views = num_ok = num_shards = 0
    limit = max_failed * generation.shards.recipe.identity.num_views
    shards = generation.shards
    if not generation.todo:
        return  # an executor would start a cluster and load a model for nothing
    shards.plan.require(generation.todo)
    executor = generation.executor
    left = ShardNumbers(shards.layout.num_shards, generation.todo)
    for outcome in executor.run(generation.todo, generation.job):
        if isinstance(outcome, Underway):
            on_underway(outcome)
            continue
        if not isinstance(outcome, ShardReport | ShardFailure) or outcome.shard not in left:
            raise ExecutorError(
                f"executor {type(executor).__name__} reports {outcome!r:.100}, expected each of "
                "its shards once, as made or as given up; this is a fault of the executor"
            )
        left.discard(outcome.shard)
        if isinstance(outcome, ShardFailure):
            # The errors of libraries may quote a URL with its credentials.
            note = {"shard": outcome.shard, "errors": [redact(text) for text in outcome.errors]}
            text = json.dumps(note, indent=2, ensure_ascii=False) + "\n"
            shards.add_note(outcome.shard, text.encode())
        yield outcome
        if isinstance(outcome, ShardReport):
            num_shards += 1
            num_views, num_ok = num_views + outcome.num_views, num_ok + outcome.num_ok
        if num_shards >= FIRST_SHARDS and not num_ok:
            raise TooManyFailedError(
                f"{shards.store.url}: the first {num_shards} shards hold no good view; `synth "
                "show` says why. The same command tries the next ones"
            )
        if num_views - num_ok > limit:
            raise TooManyFailedError(
                f"{shards.store.url}: {num_views - num_ok:,} views have failed, more than "
                f"{max_failed:.1%} of the set; `synth status` counts them. A larger --max-failed "
                "goes on"
            )
    if left:
        raise ExecutorError(
            f"executor {type(executor).__name__} says nothing of shard {min(left)} and "
            f"{len(left) - 1} others; this is a fault of the executor"
        )


def committed_now(generation: Generation) -> ShardNumbers:
    """Shards that are made when this process has nothing left to make, by it or by others.

    If it had nothing from the start, what was listed then: whoever commits a shard after that looks
    for himself whether it was the last.
    """
    return generation.shards.committed() if generation.todo else generation.committed


def finish(
    generation: Generation, committed: ShardNumbers | None = None, *, seal_incomplete: bool
) -> Seal | None:
    """Seal the set if it is complete; None if it stays open.

    Args:
        committed: What `committed_now` gave a moment ago; asked for again if not given.
        seal_incomplete: Seal it although shards are missing, which the seal names, or although no
            view is good.

    Raises:
        TooManyFailedError: The set is complete and holds no good view.
    """
    shards = generation.shards
    if seal_incomplete:
        return seal_set(shards, incomplete=True)
    if generation.seal is not None and not generation.seal.missing:
        complete_sealed(shards, generation.seal)
        return generation.seal
    committed = committed_now(generation) if committed is None else committed
    if len(committed) < shards.layout.num_shards:
        return None
    if shards.seal() is None and not any(_has_good_views(shards, shard) for shard in committed):
        raise TooManyFailedError(
            f"{shards.store.url}: no view is good, so it is not sealed; `synth show` says why, and "
            "--seal-incomplete seals it nevertheless"
        )
    return seal_set(shards)


def _has_good_views(shards: ShardSet, shard: int) -> bool:
    return any(row.is_ok for row in shards.manifest(shard).rows)


def absolute(url: str) -> str:
    """The URL, or the absolute path of a folder: a worker may have another working directory."""
    return url if "://" in url else os.path.abspath(url)


def _environment(config: GenerateConfig) -> dict[str, Any]:
    """What the recipe records and a resume may change, without secrets of URLs and folders of this
    machine: a set is given away."""
    typed = config.model_dump(mode="json")
    return environment_here() | {"config": published(typed)}


def environment_here() -> dict[str, Any]:
    """Versions of libraries and type of this machine, which may change the last bits of pixels."""
    return {"versions": versions_here(), "machine": platform.machine()}


def drift_from(recorded: Mapping[str, Any]) -> list[str]:
    """Versions that changed or were not recorded.

    Example: "torch 2.14.0, the set was begun with 2.11.0".
    """
    before = recorded.get("versions")
    if not isinstance(before, Mapping):
        return []
    lines, installed = [], versions_here()
    for name in sorted(before.keys() - installed.keys()):
        lines.append(f"{name} is not installed, the set was begun with {before[name]}")
    for name, now in installed.items():
        if name not in before:
            lines.append(f"{name} {now}, the version that the set was begun with is not recorded")
        elif now != before[name]:
            lines.append(f"{name} {now}, the set was begun with {before[name]}")
    return lines
