"""A recipe made definite for one set: what is trained on what, for how many steps."""

import math
from dataclasses import dataclass
from typing import Any

from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import check
from trainer.config import TrainConfig
from trainer.data.batches import BatchConfig
from trainer.data.crops import AugmentConfig
from trainer.data.groups import GroupTable
from trainer.data.sources import Source
from trainer.errors import DataError
from trainer.models.encoder import EncoderSpec
from trainer.objectives import Arrangement, objective_class


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recipe made definite for one set."""

    config: TrainConfig
    spec: EncoderSpec
    objective: type
    objective_config: Any
    batch: BatchConfig
    table: GroupTable
    num_left_out: int
    """Groups with too few good views."""
    num_steps: int
    warmup_steps: int
    peak_rate: float
    identity: dict[str, Any]

    @property
    def crops_per_step(self) -> int:
        """Images that pass the tower in one step, over all ranks."""
        return self.batch.num_groups * self.batch.views_per_group * self.batch.crops_per_view


def make_plan(config: TrainConfig, source: Source, *, world: int, origin: str = "recipe") -> Plan:
    """Check a recipe against a set.

    Raises:
        ConfigError: A key is wrong, or another one silences it.
        DataError: The set has not what the recipe asks for.
    """
    name = config.objective["name"]
    if not isinstance(name, str):
        raise ConfigError(f"{origin}: objective.name is {name!r}, expected a text")
    objective = objective_class(name)
    objective_config = check(objective.Config, config.objective, origin=origin, table="objective")
    spec = check(EncoderSpec, config.model, origin=origin, table="model")
    augment = check(AugmentConfig, config.augment, origin=origin, table="augment")
    arrangement: Arrangement = objective.arrangement
    whole = source.table()
    table, num_views = _arrange(whole, arrangement, config)
    num_groups = config.batch.prompts
    if num_groups % world:
        raise ConfigError(
            f"batch.prompts is {num_groups}, which {world} ranks do not divide; give a multiple of "
            f"{world} as --batch-prompts"
        )
    if len(table) < num_groups:
        most = len(table) // world * world
        advice = f"give --batch-prompts {most} or less" if most else "train on fewer ranks"
        raise DataError(
            f"{source.url}: {len(table)} groups with at least {num_views} good views, a step takes "
            f"{num_groups}; {advice}"
        )
    if num_groups < 2:
        raise ConfigError("batch.prompts is 1: nothing is negative; give at least 2")
    steps, warmup = _steps(config, len(table))
    crops = num_groups * num_views * arrangement.crops_per_view
    return Plan(
        config=config,
        spec=spec,
        objective=objective,
        objective_config=objective_config,
        batch=BatchConfig(
            num_groups=num_groups,
            views_per_group=num_views,
            crops_per_view=arrangement.crops_per_view,
            reads_captions=arrangement.reads_captions,
            input_px=spec.input_px,
            seed=config.run.seed,
            augment=augment,
            allows_bad_groups=config.data.max_bad_groups > 0,
        ),
        table=table,
        num_left_out=0 if arrangement.splits_groups else len(whole) - len(table),
        num_steps=steps,
        warmup_steps=warmup,
        peak_rate=config.optimizer.lr_per_256 * crops / 256,
        identity={
            "set": {"root_sha256": source.root},
            "objective": objective_config.model_dump(mode="json"),
            "model": spec.model_dump(mode="json"),
            "augment": augment.model_dump(mode="json"),
            "batch": {"prompts": num_groups, "views_per_prompt": num_views},
            "optimizer": config.optimizer.model_dump(mode="json"),
            "schedule": {"steps": steps, "warmup_steps": warmup},
            "run": {"seed": config.run.seed, "precision": config.run.precision},
        },
    )


def _arrange(
    whole: GroupTable, arrangement: Arrangement, config: TrainConfig
) -> tuple[GroupTable, int]:
    """The groups that a step may take, and how many views of each."""
    asked = config.batch.views_per_prompt
    if arrangement.reads_captions:
        whole = whole.with_captions()
    if arrangement.splits_groups:
        if asked not in (None, 1):
            raise ConfigError(
                f"batch.views_per_prompt is {asked}: {config.objective['name']} takes each view as "
                "a group of its own; leave it out"
            )
        return whole.with_views(1).split(), 1
    num_views = asked or max(arrangement.min_views, 1)
    if num_views < arrangement.min_views:
        raise ConfigError(
            f"batch.views_per_prompt is {num_views}: {config.objective['name']} needs at least "
            f"{arrangement.min_views} views of each prompt"
        )
    return whole.with_views(num_views), num_views


def _steps(config: TrainConfig, num_groups: int) -> tuple[int, int]:
    schedule, per_epoch = config.schedule, num_groups / config.batch.prompts
    if schedule.steps is None and schedule.epochs is None:
        raise ConfigError("schedule: neither steps nor epochs; give --steps or --epochs")
    steps = schedule.steps or max(math.ceil((schedule.epochs or 0) * per_epoch), 1)
    warmup = schedule.warmup_steps
    if warmup is None:
        warmup = round((schedule.warmup_epochs or 0) * per_epoch)
    if warmup > steps:
        raise ConfigError(f"schedule: {warmup} steps of warm-up are more than all {steps} steps")
    return steps, warmup
