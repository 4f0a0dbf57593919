"""A recipe made definite for one source: what is trained on what, for how many steps."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.foundation.errors import ConfigError, PluginError, SynthError
from manifests.foundation.files import local_path
from manifests.foundation.messages import redact
from manifests.foundation.settings import check
from trainer.config import DataTable, Precision, TrainConfig
from trainer.data.augment import AugmentConfig, CropSet
from trainer.data.sources import Cache, Demand, GroupStream, Source
from trainer.errors import DataError
from trainer.labelled_sets import LabelledSet, open_labelled
from trainer.models.specs import SPEC, EncoderDescription, EncoderSpec, read_description
from trainer.objective_settings import READABLE, Arrangement, objective_settings
from trainer.places import run_files
from trainer.tasks import HAVE_CLASSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a run does, settled before its first step."""

    config: TrainConfig
    """With the precision that the run has, where the recipe says `auto`."""
    source: Source
    stream: GroupStream
    """The groups of the source, as the objective wants them."""
    demand: Demand
    spec: EncoderSpec
    objective_config: Any
    reads: frozenset[str]
    """What the objective reads of a batch besides images and ids."""
    crops: tuple[CropSet, ...]
    num_steps: int
    warmup_steps: int
    peak_rate: float
    """Learning rate after the warm-up."""
    knn_set: LabelledSet | None
    """What the encoder is scored on while it is learned; see `trainer.online_knn`."""
    identity: dict[str, Any]
    """All that decides what is learned, as JSON: a run is resumed only under an equal one."""

    @property
    def objective(self) -> type:
        """The class of the objective. Raises PluginError."""
        from trainer.objectives import objective_class  # only here: a plan is made without torch

        objective: type = objective_class(self.config.objective["name"])
        return objective

    @property
    def crops_per_step(self) -> int:
        """Crops of one step, over all ranks."""
        per_view = sum(crops.count for crops in self.crops)
        return self.demand.num_groups * self.demand.views_per_group * per_view

    @property
    def bytes_per_step(self) -> int:
        """Pixels of all crops of a step, over all ranks."""
        views = self.demand.num_groups * self.demand.views_per_group
        return views * sum(crops.count * 3 * crops.input_px**2 for crops in self.crops)

    def epochs_after(self, num_steps: int) -> float | None:
        """Passes over the groups that so many steps make; None if the stream is endless."""
        if self.stream.num_groups is None:
            return None
        return num_steps * self.demand.num_groups / self.stream.num_groups


def make_plan(
    config: TrainConfig,
    source: Source,
    *,
    world: int,
    origin: str = "recipe",
    precision: Precision = "fp32",
) -> Plan:
    """Check a recipe against a source.

    Args:
        config: The recipe.
        source: What it is to be trained on.
        world: Number of ranks.
        origin: File of the recipe, for messages.
        precision: What a precision of `auto` is for this run.

    Raises:
        ConfigError: A key is wrong, another one silences it, or `run.knn_on` has nothing to score.
        CheckpointError: `run.init_from` names no finished run.
        DataError: The source does not have what the recipe asks for.
        PluginError: There is no such objective, or it breaks the protocol.
    """
    if config.run.precision == "auto":
        run = config.run.model_copy(update={"precision": precision})
        config = config.model_copy(update={"run": run})
    name = config.objective["name"]
    if not isinstance(name, str):
        raise ConfigError(f"{origin}: objective.name is {name!r}, expected a text")
    settings = objective_settings(name)
    objective_config = check(settings.Config, config.objective, origin=origin, table="objective")
    spec = check(EncoderSpec, config.model, origin=origin, table="model")
    augment = check(AugmentConfig, config.augment, origin=origin, table="augment")
    arrangement = settings.arrangement(objective_config)
    if unknown := arrangement.reads - READABLE:
        raise PluginError(
            f"objective {name}: reads {min(unknown)!r} of a batch, expected only "
            f"{', '.join(sorted(READABLE))}"
        )
    demand = _demand(config, arrangement)
    if demand.num_groups % world:
        raise ConfigError(
            f"batch.groups is {demand.num_groups}, which {world} ranks do not divide; give a "
            f"multiple of {world} as --batch-groups"
        )
    stream = source.stream(demand)
    _require_groups(source, stream, demand, world)
    steps, warmup = _steps(config, source, stream)
    crops = _crop_sets(config, arrangement, spec, origin)
    crops_per_view = sum(crop_set.count for crop_set in crops)
    crops_per_step = demand.num_groups * demand.views_per_group * crops_per_view
    return Plan(
        config=config,
        source=source,
        stream=stream,
        demand=demand,
        spec=spec,
        objective_config=objective_config,
        reads=arrangement.reads,
        crops=crops,
        num_steps=steps,
        warmup_steps=warmup,
        peak_rate=config.optimizer.lr_per_256 * crops_per_step / 256,
        knn_set=_knn_set(config.run.knn_on) if config.run.knn_on else None,
        # The number of ranks is not part of it: another number learns from the same batches.
        identity={
            "set": {"root_sha256": source.root},
            "objective": objective_config.model_dump(mode="json"),
            "model": spec.model_dump(mode="json"),
            "augment": augment.model_dump(mode="json"),
            "batch": {"groups": demand.num_groups, "views_per_group": demand.views_per_group},
            "optimizer": config.optimizer.model_dump(mode="json"),
            "schedule": {
                "steps": steps,
                "warmup_steps": warmup,
                "final": config.schedule.final,
            },
            "run": {
                "seed": config.run.seed,
                "precision": config.run.precision,
                # Left out where it says nothing, as in runs from before it.
                **({"init_sha256": _first_weights(config, spec)} if config.run.init_from else {}),
            },
        },
    )


def _knn_set(address: str) -> LabelledSet:
    """The set of `run.knn_on`, opened. Raises ConfigError if k-NN cannot be done on it."""
    try:
        labelled = open_labelled(address)
        labelled.split("train")
        labelled.validation_split()
    except SynthError as exc:
        raise ConfigError(f"run.knn_on: {exc}") from exc
    if labelled.task not in HAVE_CLASSES:
        raise ConfigError(
            f"run.knn_on: {labelled.name} is a set of {labelled.task}, which has no classes; give "
            "one that has some"
        )
    return labelled


def _first_weights(config: TrainConfig, spec: EncoderSpec) -> str:
    """Hash of the weights that the tower begins with."""
    path = config.run.init_from
    is_checkpoint = path.endswith(".pt")
    with run_files(path, option="--init-from", only=None if is_checkpoint else SPEC) as place:
        description = _of_checkpoint(place) if is_checkpoint else read_description(place)
    for key in ("model", "args", "input_px"):
        theirs, ours = getattr(description.spec, key), getattr(spec, key)
        if theirs != ours:
            raise ConfigError(
                f"--init-from {redact(path)}: its model.{key} is {theirs}, that of the recipe "
                f"{ours}; give the same one"
            )
    return description.sha256


def _of_checkpoint(path: Path) -> EncoderDescription:
    """Of a checkpoint nothing can be read without its weights, and so without torch."""
    from torch.random import fork_rng

    from trainer.kept_encoders import load_kept

    with fork_rng(devices=[]):  # a tower draws weights before it is given its own
        _, description = load_kept(path)
    return description


def _demand(config: TrainConfig, arrangement: Arrangement) -> Demand:
    name, asked = config.objective["name"], config.batch.views_per_group
    if config.batch.groups < arrangement.min_groups:
        raise ConfigError(
            f"batch.groups is {config.batch.groups}: {name} needs at least "
            f"{arrangement.min_groups} groups in a step"
        )
    num_views = asked or max(arrangement.min_views, 1)
    if arrangement.splits_groups:
        if asked not in (None, 1):
            raise ConfigError(
                f"batch.views_per_group is {asked}: {name} takes each view as a group of its own; "
                "leave it out"
            )
        num_views = 1
    elif num_views < arrangement.min_views:
        raise ConfigError(
            f"batch.views_per_group is {num_views}: {name} needs at least "
            f"{arrangement.min_views} views of each group"
        )
    return Demand(
        seed=config.run.seed,
        num_groups=config.batch.groups,
        views_per_group=num_views,
        splits_groups=arrangement.splits_groups,
        reads=arrangement.reads - {"draws"},  # the loader makes the draws, not the source
        replaces_unreadable=config.data.max_bad_groups > 0,
        cache=_cache(config.data),
    )


def _cache(data: DataTable) -> Cache | None:
    if not data.cache_dir:
        return None
    folder = local_path(data.cache_dir, option="data.cache_dir").absolute()
    if folder.resolve().is_relative_to("/dev/shm"):
        raise ConfigError(
            f"data.cache_dir {folder}: is the shared memory that batches need; give a folder of a "
            "disk of this machine"
        )
    return Cache(folder=folder, max_bytes=int(data.cache_gb * 1e9))


def _require_groups(source: Source, stream: GroupStream, demand: Demand, world: int) -> None:
    """Refuse a source with fewer groups than a step takes: a step would repeat some of them."""
    available = stream.num_groups
    if available is not None and available < demand.num_groups:
        most = available // world * world
        advice = f"give --batch-groups {most} or less" if most else "train on fewer ranks"
        raise DataError(
            f"{source.url}: {available} groups with at least {demand.views_per_group} good views, "
            f"a step takes {demand.num_groups}; {advice}"
        )


def _crop_sets(
    config: TrainConfig, arrangement: Arrangement, spec: EncoderSpec, origin: str
) -> tuple[CropSet, ...]:
    return tuple(
        CropSet(
            count=crops.count,
            input_px=crops.side_px(spec.input_px),
            augment=check(
                AugmentConfig,
                config.augment | dict(crops.augment),
                origin=f"{origin}, crops of {config.objective['name']}",
                table="augment",
            ),
        )
        for crops in arrangement.crops
    )


def _steps(config: TrainConfig, source: Source, stream: GroupStream) -> tuple[int, int]:
    """Steps of the run, and how many of them are warm-up."""
    schedule = config.schedule
    if schedule.steps is None and schedule.epochs is None:
        raise ConfigError("schedule: neither steps nor epochs; give --steps or --epochs")
    if stream.num_groups is None:
        for key in ("epochs", "warmup_epochs"):
            if getattr(schedule, key) is not None:
                other = key.replace("epochs", "steps")
                raise ConfigError(
                    f"schedule.{key}: {source.url} is endless and has no epochs; give "
                    f"schedule.{other}"
                )
    steps_per_epoch = (stream.num_groups or 0) / config.batch.groups
    steps = schedule.steps or max(math.ceil((schedule.epochs or 0) * steps_per_epoch), 1)
    warmup = schedule.warmup_steps
    if warmup is None:
        warmup = round((schedule.warmup_epochs or 0) * steps_per_epoch)
    if warmup > steps:
        key = "epochs" if schedule.warmup_steps is None else "steps"
        most = steps if key == "steps" else math.floor(1000 * steps / steps_per_epoch) / 1000
        raise ConfigError(
            f"schedule.warmup_{key}: {warmup} steps of warm-up are more than all {steps} steps; "
            f"give --set schedule.warmup_{key}={most} or less"
        )
    return steps, warmup
