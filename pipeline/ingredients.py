"""From a configuration to what a set is made of: opened, checked and tried out.

Nothing is written here. `resolve` opens what a recipe names, `probe` settles what has to be tried,
`try_out` renders a view, and `freeze` says what decides the pixels.
"""

import logging
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.canonical import hash_json
from manifests.columns import of_scope
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import shortened
from manifests.foundation.progress import progress
from manifests.foundation.settings import check
from manifests.ids import NUM_SEEDS
from manifests.layout import RECIPE
from manifests.plan import ViewRequest, requests_of
from manifests.recipe import Identity
from manifests.shard_set import ShardSet
from manifests.storage import Store
from pipeline.config import GenerateConfig
from pipeline.deadline import BatchDeadline
from pipeline.errors import ModelError, ShardError
from pipeline.in_flight import in_flight
from pipeline.job import ViewPipeline, encoder_for, open_audits
from pipeline.renderers import Renderer, renderer_class, require_declarations, require_probed
from pipeline.rendering import render_checked
from pipeline.views import Resources
from prompts.merging import MergedSubjects, merge_subjects
from prompts.sources import prompt_source_class
from prompts.subject import Subject

log = logging.getLogger(__name__)

NUM_TRIED = 4
"""Subjects that are tried before a set is begun, until a view of one can be rendered."""

SHOWN_EVERY = 10_000
"""Subjects between two looks at the clock while they are read."""

TAR_BYTES_BESIDE_IMAGE = 2300
"""Of a view in a tar, about: two headers of 512 bytes, its row as JSON, what fills up blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """What a recipe asks for, opened and checked; nothing is written or rendered yet."""

    config: GenerateConfig
    view_pipeline: ViewPipeline
    subjects: MergedSubjects


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
    subjects = read_subjects(config.prompts, renderer, origin=origin)
    return Ingredients(
        config=config,
        view_pipeline=ViewPipeline(
            renderer=renderer,
            encoder=encoder_for(renderer, config.image),
            audits=open_audits(_audit_tables(config.audits, origin), origin=origin),
        ),
        subjects=subjects,
    )


def read_subjects(
    prompts: Mapping[str, Any], renderer: Renderer, *, origin: str, before: Iterable[Subject] = ()
) -> MergedSubjects:
    """The subjects of a prompt source, merged, for a renderer that has to be able to depict them.

    Args:
        prompts: Table [prompts] of a recipe.
        origin: File for messages.
        before: Subjects that come first in the plan.

    Raises:
        ConfigError: A wrong key or value, or subjects of a kind that the renderer cannot depict.
        PluginError: An unknown prompt source.
        PromptError: The captions cannot be used.
    """
    # The renderer comes before the prompts, because it declares the columns that they need.
    source_class = prompt_source_class(str(prompts["source"]))
    source = source_class(check(source_class.Config, prompts, origin=origin, table="prompts"))
    columns = of_scope(renderer.columns(), "subject")
    subjects = merge_subjects(chain(before, _shown(source.subjects(columns))), columns)
    if not subjects:
        raise ConfigError(f"prompts of source {prompts['source']}: no subject to depict")
    if unknown := subjects.kinds - {*renderer.kinds}:
        raise ConfigError(
            f"renderer {renderer.config.name} depicts {', '.join(renderer.kinds)}, the prompts "
            f"are of kind {min(unknown)}; choose another renderer or another prompt source"
        )
    renderer.check(subjects)
    return subjects


def _shown(subjects: Iterable[Subject]) -> Iterator[Subject]:
    """The subjects as they come, with their number on the terminal: there may be millions."""
    with progress("read", "subjects", None) as advance:
        number = 0
        for number, subject in enumerate(subjects, start=1):
            if number % SHOWN_EVERY == 0:
                advance(SHOWN_EVERY)
            yield subject
        advance(number % SHOWN_EVERY)


def probe(ingredients: Ingredients) -> Ingredients:
    """Settle what is chosen by the machine, such as a batch size, for shards like the first."""
    # Requests are made from an identity, and a whole one is known only after the probe. A draft
    # will do: what it lacks decides pixels, but no request.
    draft = freeze(ingredients, is_draft=True)
    requests = requests_of(draft, ingredients.subjects[: draft.subjects_per_shard])
    renderer = ingredients.view_pipeline.renderer.probe(requests)
    require_probed(ingredients.config.renderer["name"], renderer)
    return replace(ingredients, view_pipeline=replace(ingredients.view_pipeline, renderer=renderer))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a batch cost that was rendered before a set is begun."""

    view_s: float
    """Seconds of rendering for one view on this machine."""
    view_bytes: float
    """Of one view in a tar."""


def try_out(
    ingredients: Ingredients, url: str, batch_deadline_s: float | None = None
) -> Trial | None:
    """Render one view of each size before anything is begun, alone and in a batch with others.

    The views are dropped, and no audit judges them: it is the renderer that is tried, not the
    subject. If the first subject fails, a few others are tried, in every variation. One that ends
    this process is left out by the next one: whoever makes its shard knows what to do with it.

    Args:
        url: Where the set is to be.
        batch_deadline_s: Of the executor; it ends the process, as that of the first batch.

    Returns:
        The mean over the sizes; None if this machine has no such device as the workers have.

    Raises:
        ModelError: The renderer raises on all of them, as a model does that is called with steps or
            sizes that it does not take, or ended a process each time; or its pixels change with the
            other views of a call.
    """
    renderer = ingredients.view_pipeline.renderer
    if not can_render_here(renderer.resources()):
        return None
    identity = freeze(ingredients)
    num_subjects = len(ingredients.subjects)
    chosen = {index * (num_subjects - 1) // (NUM_TRIED - 1) for index in range(NUM_TRIED)}
    one_each = replace(identity, views_per_subject=len(identity.variations))
    with in_flight(url, f"trial of {hash_json(identity.to_json())}") as flight:
        if not (innocent := sorted(chosen - flight.left)):
            flight.left.clear()  # the next one may have more memory
            raise ModelError(
                f"renderer {identity.renderer}: killed its process with each of {len(chosen)} "
                "subjects that were tried, or did not end; is the memory enough? The same command "
                "tries them again"
            )

        @contextmanager
        def trying(request: ViewRequest) -> Iterator[None]:
            flight.note([request.subject.group_index])
            with BatchDeadline(batch_deadline_s).watching(request.key):
                yield
            flight.note(())

        requests = requests_of(one_each, [ingredients.subjects[index] for index in innocent])
        by_size: dict[tuple[int, int], list[ViewRequest]] = {}
        for request in requests:
            by_size.setdefault(renderer.size_of(request.variation), []).append(request)
        try:
            trials = [
                _try_size(ingredients.view_pipeline, of_size, identity.renderer, trying)
                for of_size in by_size.values()
            ]
        finally:
            renderer.release()  # a worker on this device needs the memory
        flight.left.clear()
    return Trial(
        view_s=statistics.mean(trial.view_s for trial in trials),
        view_bytes=statistics.mean(trial.view_bytes for trial in trials),
    )


def can_render_here(resources: Resources) -> bool:
    """Whether this machine has such a device as the workers have; a warning if it has not."""
    if resources.device_type != "cuda":
        return True
    import torch  # only here: a renderer of somebody else may do without

    if not torch.cuda.is_available():
        log.warning("no view is tried: the workers have the GPUs, and this machine has none")
        return False
    return True


def _try_size(
    pipeline: ViewPipeline,
    requests: Sequence[ViewRequest],
    name: str,
    trying: Callable[[ViewRequest], AbstractContextManager[None]],
) -> Trial:
    """The first of these requests of one size that can be rendered.

    Args:
        trying: Is entered while a request is rendered that was not before.
    """
    renderer, errors = pipeline.renderer, []
    for request in requests:
        try:
            with trying(request):
                (view,) = render_checked(renderer, [request], name)
        except ShardError as exc:
            errors.append(str(exc))
            continue
        start = time.perf_counter()
        # The subject whose text is longest beside it or shortest: texts may be padded.
        other = max(
            requests, key=lambda one: abs(len(one.subject.text) - len(request.subject.text))
        )
        with trying(other):
            require_same_beside(renderer, request, view.pixels, other, name)
        view_s = (time.perf_counter() - start) / renderer.batch_size
        renderer.try_request(request)
        image = pipeline.encoder.encode(view.pixels)
        return Trial(view_s=view_s, view_bytes=len(image) + TAR_BYTES_BESIDE_IMAGE)
    width_px, height_px = renderer.size_of(requests[0].variation)
    raise ModelError(
        f"renderer {name}: none of {len(requests)} views of {width_px} x {height_px} px that were "
        f"tried can be rendered, the first because of {errors[0]}"
    )


def require_same_beside(
    renderer: Renderer,
    request: ViewRequest,
    alone: NDArray[np.uint8],
    other: ViewRequest,
    name: str,
) -> None:
    """Law 2 of renderers, tried in a batch with other views of the same subject and of another."""
    batch = [request]
    for index in range(1, renderer.batch_size):
        subject = other.subject if index % 2 else request.subject
        neighbour = replace(
            request,
            key=f"{request.key}+{index}",
            subject=subject,
            seed=(request.seed + index) % NUM_SEEDS,
        )
        if renderer.batch_key(neighbour) != renderer.batch_key(request):
            neighbour = replace(neighbour, subject=request.subject)
        batch.append(neighbour)
    try:
        view = render_checked(renderer, batch, name)[0]
    except ShardError:
        return  # the other subject cannot be rendered: its own row will say so
    if not renderer.is_reproducible or np.array_equal(view.pixels, alone):
        return
    levels = int(np.abs(view.pixels.astype(int) - alone.astype(int)).max())
    has_key = "captions_per_batch" in type(renderer).Config.model_fields
    mend = "renderer.captions_per_batch one, or --batch-size 1" if has_key else "--batch-size 1"
    raise ModelError(
        f"renderer {name}: the pixels of {request.key} change by {levels} of 255 levels with the "
        f"other views of a call; give {mend}"
    )


def time_batches(ingredients: Ingredients) -> Iterator[tuple[int, float]]:
    """Sizes of batches, each with the views per second of one batch on this machine.

    Raises:
        ConfigError: The size of a batch is no setting of this renderer.
    """
    # A draft will do: no batch size is chosen yet, and it decides no request.
    draft = freeze(ingredients, is_draft=True)
    request, *_ = requests_of(draft, ingredients.subjects[:1])
    yield from ingredients.view_pipeline.renderer.time_batches(request)


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
        subjects_sha256=subjects.sha256,
        renderer=str(config.renderer["name"]),
        **decided | {"columns": columns},  # in place of their JSON
    )


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
