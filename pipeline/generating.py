"""From a configuration to a set, in steps: resolve, probe, freeze, begin, make what remains.

Each step can be called by itself. `begin` takes all of them up to the first shard. `rejoin` resumes
a set that was begun, and needs neither captions nor a recipe file: the set holds all it takes.
"""

import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from manifests.errors import ForeignSetError
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import redact, shortened
from manifests.foundation.settings import check
from manifests.layout import RECIPE
from manifests.plan import hash_subjects, requests_of
from manifests.recipe import Identity
from manifests.rows import SubjectRow
from manifests.seal import Seal
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import Store, open_store
from pipeline.config import GenerateConfig
from pipeline.encoding import ImageEncoder
from pipeline.errors import ExecutorError, ModelError, ShardError, TooManyFailedError
from pipeline.execution import Executor, executor_class
from pipeline.job import Job, ViewPipeline, open_audits
from pipeline.renderers import renderer_class, require_declarations, require_probed
from pipeline.retrying import ShardFailure
from pipeline.worker import ShardReport
from prompts.merging import merge_subjects
from prompts.sources import prompt_source_class

_VERSIONED = ("synth-rep", "torch", "diffusers", "transformers", "pyarrow", "pillow", "simplejpeg")
"""Packages whose versions a recipe records: another version may change the last bits of pixels."""

NUM_TRIED = 4
"""Subjects that are tried before a set is begun, until a view of one can be rendered."""
FIRST_SHARDS = 3
"""A run ends if so many shards are made and none holds a good view: the rest would be no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """What a recipe asks for, opened and checked; nothing is written or rendered yet."""

    config: GenerateConfig
    view_pipeline: ViewPipeline
    subjects: Sequence[SubjectRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A set that was begun, and what remains to be done for it."""

    shards: ShardSet
    job: Job
    executor: Executor
    todo: Sequence[int]
    """Shards that are neither committed nor given up, ascending."""
    drift: Sequence[str]
    """A line for each library whose version is not, or not known to be, the one that the set was
    begun with."""


def begin(
    config: GenerateConfig, url: str, *, retry_failed: bool = False, origin: str = "recipe"
) -> Generation:
    """Freeze the recipe and write the plan, or resume the set at `url` that has the same recipe.

    Args:
        config: The whole recipe.
        url: Where the set is, or is to be.
        retry_failed: Try shards again that were given up.
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
    if not store.exists(RECIPE):
        try_out(ingredients)
    identity = freeze(ingredients)
    settings = ingredients.view_pipeline.settings()
    environment = _environment(config)
    shards = ShardSet.begin(
        store, identity, ingredients.subjects, environment=environment, settings=settings
    )
    # The settings of this command win over those in the set: the model may lie in another folder
    # today. The user named renderer and audits in this very command, so they may run.
    named = {name for name in (identity.renderer, *identity.reasons) if ":" in name}
    job = Job.from_recipe(
        shards.recipe, _absolute(url), changes=settings["renderer"], trusted=named
    )
    return _generation(shards, job, executor, retry_failed=retry_failed)


def rejoin(
    execution: Mapping[str, Any],
    url: str,
    *,
    retry_failed: bool = False,
    trusted: Collection[str] = (),
) -> Generation:
    """Resume a set that was begun, from the recipe and the plan that it holds.

    Args:
        execution: Table [execution] of a recipe.
        url: Where the set is.
        retry_failed: Try shards again that were given up.
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
    job = Job.from_recipe(shards.recipe, _absolute(url), trusted=trusted)
    return _generation(shards, job, executor, retry_failed=retry_failed)


def resolve(config: GenerateConfig, store: Store, *, origin: str) -> Ingredients:
    """Open everything that a recipe names, and read and merge the subjects.

    Args:
        store: Where the set is, or is to be; values that it has frozen replace `auto`.

    Raises:
        ConfigError: A wrong key or value, subjects of a kind that the renderer cannot depict, or
            settings that it would ignore.
        PluginError: An unknown renderer, audit or prompt source.
        PromptError: The captions cannot be used.
        RendererError: The renderer declares what no set can hold.
    """
    plugin = renderer_class(str(config.renderer["name"]))
    values = _with_frozen_values(config.renderer, store)
    renderer = plugin(check(plugin.Config, values, origin=origin, table="renderer"))
    require_declarations(str(config.renderer["name"]), renderer)
    # The renderer comes before the prompts, because it declares the columns that they need.
    source_class = prompt_source_class(str(config.prompts["source"]))
    source = source_class(
        check(source_class.Config, config.prompts, origin=origin, table="prompts")
    )
    columns = [column for column in renderer.columns() if column.scope == "subject"]
    subjects = merge_subjects(source.subjects(columns), columns)
    if not subjects:
        raise ConfigError(f"prompts of source {config.prompts['source']}: no subject to depict")
    if unknown := {subject.kind for subject in subjects} - {*plugin.kinds}:
        raise ConfigError(
            f"renderer {config.renderer['name']} depicts {', '.join(plugin.kinds)}, the prompts "
            f"are of kind {min(unknown)}; choose another renderer or another prompt source"
        )
    renderer.check(subjects)
    return Ingredients(
        config=config,
        view_pipeline=ViewPipeline(
            renderer=renderer,
            encoder=ImageEncoder(config.image, rendered_px=renderer.provenance().width_px),
            audits=open_audits(_audit_tables(config.audits, origin), origin=origin),
        ),
        subjects=subjects,
    )


def probe(ingredients: Ingredients) -> Ingredients:
    """Settle what has to be tried out, such as a batch size, on the first subject."""
    # Requests are made from an identity, and a whole one is known only after the probe. A draft
    # will do: what it lacks decides pixels, but no request.
    draft = freeze(ingredients, is_draft=True)
    one_each = replace(draft, views_per_subject=len(draft.variations), num_subjects=1)
    requests = requests_of(one_each, ingredients.subjects[:1])
    renderer = ingredients.view_pipeline.renderer.probe(requests)
    require_probed(ingredients.config.renderer["name"], renderer)
    return replace(ingredients, view_pipeline=replace(ingredients.view_pipeline, renderer=renderer))


def try_out(ingredients: Ingredients) -> None:
    """Render one view before anything is begun.

    The view is dropped, and no audit judges it: it is the renderer that is tried, not the subject.
    If the first subject fails, a few others are tried, in every variation.

    Raises:
        ModelError: The renderer raises on all of them, as a model does that is called with steps or
            sizes that it does not take.
    """
    renderer = ingredients.view_pipeline.renderer
    if renderer.resources().device_type == "cuda":
        import torch  # only here: a renderer of somebody else may do without

        if not torch.cuda.is_available():
            return  # the workers have the GPUs
    identity = freeze(ingredients)
    num_subjects = len(ingredients.subjects)
    chosen = sorted({index * (num_subjects - 1) // (NUM_TRIED - 1) for index in range(NUM_TRIED)})
    one_each = replace(identity, views_per_subject=len(identity.variations))
    requests = requests_of(one_each, [ingredients.subjects[index] for index in chosen])
    errors = []
    for request in requests:
        try:
            renderer.render([request])
        except ShardError as exc:
            errors.append(str(exc))
        else:
            break
    renderer.release()  # a worker on this device needs the memory
    if len(errors) < len(requests):
        return
    raise ModelError(
        f"renderer {identity.renderer}: none of {len(requests)} views that were tried can be "
        f"rendered, the first because of {errors[0]}"
    )


def freeze(ingredients: Ingredients, *, is_draft: bool = False) -> Identity:
    """The identity of the set: everything that decides its pixels and rows.

    Args:
        is_draft: Leave out the renderer's identity, which only a probed renderer knows.
    """
    config, subjects = ingredients.config, ingredients.subjects
    renderer = ingredients.view_pipeline.renderer
    columns = tuple(renderer.columns())
    decided = ingredients.view_pipeline.identity(is_draft=is_draft)
    return Identity(
        dataset_seed=config.views.seed,
        views_per_subject=config.views.per_subject,
        variations=tuple(renderer.variations()),
        paired=config.views.paired,
        num_subjects=len(subjects),
        subjects_per_shard=config.shards.subjects,
        subjects_sha256=hash_subjects(subjects, columns),
        renderer=str(config.renderer["name"]),
        **decided | {"columns": columns},  # in place of their JSON
    )


def open_executor(execution: Mapping[str, Any], *, origin: str) -> Executor:
    """The executor of a recipe's table [execution]."""
    values = {"executor": "ray"} | dict(execution)
    plugin = executor_class(str(values["executor"]))
    return plugin(check(plugin.Config, values, origin=origin, table="execution"))


def _generation(
    shards: ShardSet, job: Job, executor: Executor, *, retry_failed: bool
) -> Generation:
    is_sealed = shards.seal() is not None
    if retry_failed and is_sealed:
        raise ConfigError(
            f"{shards.store.url}: is sealed and does not change any more; --retry-failed is for a "
            "set that is still open"
        )
    # Only manifests say what is made: a shard whose tar has no manifest is made again. A sealed set
    # stays as it is, even if it was sealed with shards missing.
    done = set(shards.committed())
    if not retry_failed:
        done |= set(shards.given_up())
    todo = [] if is_sealed else [n for n in range(shards.layout.num_shards) if n not in done]
    return Generation(
        shards=shards,
        job=job,
        executor=executor,
        todo=todo,
        drift=_drift(shards.recipe.environment),
    )


def run(generation: Generation, *, max_failed: float = 1.0) -> Iterator[ShardReport | ShardFailure]:
    """Make the shards that are left, and yield the outcome of each.

    A shard that is given up leaves a note in `failed/`, which `synth status` reads.

    Args:
        max_failed: Share of all views of the set that may fail, 0 to 1.

    Raises:
        TooManyFailedError: The first FIRST_SHARDS shards hold no good view, or more views have
            failed than may. The set stays open.
    """
    num_views = num_ok = num_shards = 0
    limit = max_failed * generation.shards.recipe.identity.num_views
    shards = generation.shards
    if not generation.todo:
        return  # an executor would start a cluster and load a model for nothing
    executor, left = generation.executor, {*generation.todo}
    for outcome in executor.run(generation.todo, generation.job):
        if not isinstance(outcome, ShardReport | ShardFailure) or outcome.shard not in left:
            raise ExecutorError(
                f"executor {type(executor).__name__} reports {outcome!r:.100}, expected each of "
                "its shards once, as made or as given up; this is a fault of the executor"
            )
        left.remove(outcome.shard)
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


def finish(generation: Generation, *, seal_incomplete: bool) -> Seal | None:
    """Seal the set if it is complete; None if it stays open.

    Args:
        seal_incomplete: Seal it although shards are missing, which the seal names, or although no
            view is good.

    Raises:
        TooManyFailedError: The set is complete and holds no good view.
    """
    shards = generation.shards
    committed = shards.committed()
    if seal_incomplete:
        return seal_set(shards, incomplete=True)
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


def _with_frozen_values(renderer: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """A renderer's table with each `auto` replaced by what was frozen when the set was begun.

    Without this, a probe that measures another batch size today would make another recipe, and
    the same command could not resume its own set.
    """
    values = dict(renderer)
    if not store.exists(RECIPE):
        return values
    recipe = ShardSet(store).recipe
    frozen = recipe.settings.get("renderer")
    if recipe.identity.renderer == values["name"] and isinstance(frozen, Mapping):
        plugin = renderer_class(str(values["name"]))
        for name, field in plugin.Config.model_fields.items():
            if values.get(name, field.default) == "auto" and name in frozen:
                values[name] = frozen[name]
    return values


def _audit_tables(audits: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The table of each audit in `use`, by name, in the order in which they judge."""
    used = audits["use"]
    if not isinstance(used, list | tuple) or not all(isinstance(name, str) for name in used):
        raise ConfigError(
            f"{origin}: audits.use is {shortened(repr(used))}, expected a list of names"
        )
    tables = {name: values for name, values in audits.items() if name != "use"}
    if unused := sorted({*tables} - {*used}):
        raise ConfigError(
            f"{origin}: audits.{unused[0]} is set but not used; audits.use has "
            f"{', '.join(used)}: add it there or drop its table"
        )
    return {name: tables.get(name, {}) for name in used}


def _absolute(url: str) -> str:
    """The URL, or the absolute path of a folder: a worker may have another working directory."""
    return url if "://" in url else os.path.abspath(url)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _environment(config: GenerateConfig) -> dict[str, Any]:
    """What the recipe records and a resume may change; secrets of URLs are cut out."""
    typed = config.model_dump(mode="json")
    return {
        "versions": _versions(),
        "machine": platform.machine(),
        "config": _redacted(typed),
    }


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _redacted(item) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, list | tuple) else value


def _drift(recorded: Mapping[str, Any]) -> list[str]:
    """Versions that changed or were not recorded.

    Example: "torch 2.14.0, the set was begun with 2.11.0".
    """
    before = recorded.get("versions")
    if not isinstance(before, Mapping):
        return []
    lines, installed = [], _versions()
    for name in sorted(before.keys() - installed.keys()):
        lines.append(f"{name} is not installed, the set was begun with {before[name]}")
    for name, now in installed.items():
        if name not in before:
            lines.append(f"{name} {now}, the version that the set was begun with is not recorded")
        elif now != before[name]:
            lines.append(f"{name} {now}, the set was begun with {before[name]}")
    return lines
