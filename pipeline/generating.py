"""From a configuration to a set: freeze the recipe, make what is missing, seal."""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import redact
from manifests.foundation.settings import check
from manifests.layout import RECIPE
from manifests.plan import hash_prompts, requests_of
from manifests.recipe import Identity
from manifests.seal import Seal
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import Store, open_store
from pipeline.config import GenerateConfig
from pipeline.encoding import ImageEncoder
from pipeline.execution import Executor, executor_class
from pipeline.renderers import renderer_class
from pipeline.retrying import ShardFailure
from pipeline.worker import Job, ShardReport
from prompts.merging import merge_prompts
from prompts.reading import read_prompts

_VERSIONED = ("synth-rep", "torch", "diffusers", "transformers", "pyarrow", "pillow", "simplejpeg")

MAX_VIEWS_PER_SHARD = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A set that was begun, and how to go on with it."""

    shards: ShardSet
    job: Job
    executor: Executor
    todo: Sequence[int]
    """Shards that are neither committed nor given up, ascending."""
    drift: Sequence[str]
    """Library versions that are not those that the set was begun with."""


def begin(
    config: GenerateConfig, url: str, *, retry_failed: bool = False, origin: str = "recipe"
) -> Generation:
    """Freeze the recipe and write the plan, or join the set that is there.

    Raises:
        PipelineError, PromptError, ContractError: As soon as anything is wrong; before the first
            file is written where that can be known.
    """
    store = open_store(url)
    store.require_writable()
    rows = merge_prompts(
        read_prompts(config.prompts.file, caption_column=config.prompts.caption_column)
    )
    found = renderer_class(str(config.renderer["name"]))
    checked = check(found.Config, config.renderer, origin=origin, table="renderer")
    executor = executor_class(config.execution.executor)(
        workers=config.execution.workers, ray_address=config.execution.ray_address
    )
    renderer = found(_with_frozen_batch_size(checked, store))
    renderer.check(config.views.guidance, any(row.negative_prompt for row in rows))
    encoder = ImageEncoder(config.image, rendered_px=renderer.provenance().width_px)

    if config.shards.prompts * config.views.per_prompt > MAX_VIEWS_PER_SHARD:
        raise ConfigError(
            f"{config.shards.prompts} prompts of {config.views.per_prompt} views are more than "
            f"{MAX_VIEWS_PER_SHARD:,} views in a shard; give a smaller --prompts-per-shard"
        )
    identity = Identity(
        dataset_seed=config.views.seed,
        images_per_prompt=config.views.per_prompt,
        guidance_scales=config.views.guidance,
        num_prompts=len(rows),
        prompts_per_shard=config.shards.prompts,
        prompts_sha256=hash_prompts(rows),
        renderer=str(config.renderer["name"]),
        renderer_identity={},
        image=encoder.identity(),
    )
    # The most expensive guidance decides what fits.
    probe = replace(identity, images_per_prompt=1, guidance_scales=(max(config.views.guidance),))
    renderer = renderer.with_batch_size(requests_of(probe, rows[:1]))
    identity = replace(identity, renderer_identity=renderer.identity())
    environment = _environment(config, checked)
    shards = ShardSet.begin(store, identity, rows, environment)
    if retry_failed:
        if shards.seal() is not None:
            raise ConfigError(
                f"{store.url}: is sealed and does not change any more; --retry-failed is for a set "
                "that is still open"
            )
        for shard in shards.given_up():
            store.delete(shards.layout.failed(shard))
    done = {*shards.committed(), *shards.given_up()}
    todo = [] if shards.seal() else [n for n in range(identity.num_shards) if n not in done]
    job = Job(
        url=os.path.abspath(url) if "://" not in url else url,
        renderer=identity.renderer,
        renderer_config=checked.model_dump() | {"batch_size": renderer.batch_size},
        image_config=config.image.model_dump(),
        device_type=str(identity.renderer_identity.get("device_type", "cpu")),
        num_threads=int(identity.renderer_identity.get("threads", 1)),
    )
    return Generation(
        shards=shards,
        job=job,
        executor=executor,
        todo=todo,
        drift=_drift(shards.recipe.environment, environment),
    )


def run(generation: Generation) -> Iterator[ShardReport | ShardFailure]:
    """Make the shards that are left; a shard that is given up leaves a note in `failed/`."""
    shards = generation.shards
    if not generation.todo:
        return
    for outcome in generation.executor.run(generation.todo, generation.job):
        if isinstance(outcome, ShardFailure):
            note = {"shard": outcome.shard, "errors": list(outcome.errors)}
            text = json.dumps(note, indent=2, ensure_ascii=False) + "\n"
            shards.store.replace(shards.layout.failed(outcome.shard), text.encode())
        yield outcome


def finish(generation: Generation, *, seal_incomplete: bool) -> Seal | None:
    """Seal the set if every shard is committed, or if asked to; None if it stays open."""
    shards = generation.shards
    is_whole = len(shards.committed()) == shards.layout.num_shards
    if is_whole or seal_incomplete:
        return seal_set(shards, incomplete=seal_incomplete)
    return None


def _with_frozen_batch_size(config: Any, store: Store) -> Any:
    """`auto` means what was found when the set was begun."""
    if getattr(config, "batch_size", None) == "auto" and store.exists(RECIPE):
        frozen = ShardSet(store).recipe.identity.renderer_identity.get("batch_size")
        return config.model_copy(update={"batch_size": frozen})
    return config


def _environment(config: GenerateConfig, renderer: BaseModel) -> dict[str, Any]:
    """What is recorded and may drift; no secrets, no credentials of a URL."""
    versions = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    resolved = config.model_dump(mode="json")
    resolved["prompts"]["file"] = redact(resolved["prompts"]["file"])
    resolved["renderer"] = renderer.model_dump(mode="json")
    return {"versions": versions, "machine": platform.machine(), "config": resolved}


def _drift(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Versions that changed. Example: "torch 2.14.0, the set was begun with 2.11.0"."""
    before = recorded.get("versions", {})
    return [
        f"{name} {found}, the set was begun with {before.get(name)}"
        for name, found in now["versions"].items()
        if found != before.get(name)
    ]
