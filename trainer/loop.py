"""The training loop: from a set and a recipe to an encoder, step by step."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from manifests.errors import ConfigError
from manifests.settings import check
from trainer.checkpointing import checkpoints, load_checkpoint, save_checkpoint
from trainer.config import TrainConfig
from trainer.data.batches import Batch, BatchConfig, Batches, load
from trainer.data.crops import AugmentConfig
from trainer.data.draws import generator
from trainer.data.groups import GroupTable
from trainer.data.sources import Source
from trainer.distributed import Control, rank, world_size
from trainer.errors import CheckpointError, DataError, DivergedError
from trainer.learner import Learner
from trainer.metrics import Metrics
from trainer.models.encoder import EncoderSpec, save_encoder
from trainer.models.text import ImageText, save_text
from trainer.objectives import Arrangement, Groups, objective_class
from trainer.optimization import learning_rate, make_optimizer, set_learning_rate
from trainer.runs import enter_run, surroundings

MAX_SKIPPED_IN_A_ROW = 5
"""Steps whose gradients are not finite before the run gives up."""

_log = logging.getLogger(__name__)


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
    objective = objective_class(config.objective["name"])
    objective_config = check(objective.Config, config.objective, origin=origin, table="objective")
    spec = check(EncoderSpec, config.model, origin=origin, table="model")
    augment = check(AugmentConfig, config.augment, origin=origin, table="augment")
    arrangement: Arrangement = objective.arrangement
    whole = source.table()
    table, num_views = _arrange(whole, arrangement, config, source)
    num_groups = config.batch.prompts
    if num_groups % world:
        raise ConfigError(
            f"batch.prompts is {num_groups}, which {world} ranks do not divide; give a multiple of "
            f"{world} as --batch-prompts"
        )
    if len(table) < num_groups:
        raise DataError(
            f"{source.url}: {len(table)} groups with at least {num_views} good views, a step takes "
            f"{num_groups}; give --batch-prompts {len(table) // world * world or world} or less"
        )
    if arrangement.min_views + arrangement.crops_per_view > 2 and num_groups < 2:
        raise ConfigError("batch.prompts is 1: nothing is negative; give at least 2")
    if arrangement.reads_captions:
        empty = not source.caption(int(table.shards[0]), int(table.first_rows[0]))
        if empty:
            raise DataError(
                f"{source.url}: has no captions, and {config.objective['name']} learns from them; "
                "train with --objective stablerep or simclr"
            )
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
            "data": {"max_bad_groups": config.data.max_bad_groups},
            "optimizer": config.optimizer.model_dump(mode="json"),
            "schedule": {"steps": steps, "warmup_steps": warmup},
            "run": {"seed": config.run.seed, "precision": config.run.precision},
        },
    )


def _arrange(
    whole: GroupTable, arrangement: Arrangement, config: TrainConfig, source: Source
) -> tuple[GroupTable, int]:
    asked = config.batch.views_per_prompt
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


def train(
    plan: Plan,
    source: Source,
    run: Path,
    *,
    device: torch.device,
    fresh: bool = False,
    on_begin: Callable[[int, int], None] = lambda step, num_steps: None,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, values: None,
) -> bool:
    """Train to the end, or until SIGTERM; an existing run is gone on with.

    Args:
        on_begin: Told the step that is gone on from, and how many there are.
        on_step: Told each finished step, with the numbers of those that are logged.

    Returns:
        Whether the run is at its end, with `encoder.safetensors` written.

    Raises:
        CheckpointError: The folder holds another run.
        DivergedError: Gradients were not finite for several steps in a row.
        DataError: Groups could not be read, more than allowed.
    """
    config = plan.config
    torch.manual_seed(config.run.seed)
    dtype = torch.bfloat16 if config.run.precision == "bf16" else None
    # Before anything is written: only a built model shows that its recipe is right.
    learner = Learner(plan.spec, plan.objective, plan.objective_config, dtype).to(device)
    if rank() == 0:
        facts = surroundings(world_size(), device)
        facts["set"] = {"url": source.url, "num_groups": len(plan.table)}
        facts["set"]["num_left_out"] = plan.num_left_out
        enter_run(run, plan.identity, facts, fresh=fresh)
    if world_size() > 1:
        dist.barrier()
    optimizer = make_optimizer(learner, config.optimizer)
    first, num_bad = _resume(run, learner, optimizer, device)
    module: nn.Module = learner
    if world_size() > 1:
        module = DistributedDataParallel(
            learner, broadcast_buffers=False, gradient_as_bucket_view=True
        )
    on_begin(first, plan.num_steps)
    state = _State(plan, run, learner, optimizer, num_bad)
    metrics = Metrics(run, step=first) if rank() == 0 else None
    try:
        with _stop_signals() as stopped:
            done = _steps_of(plan, source, module, state, device, first, stopped, metrics, on_step)
    finally:
        if metrics is not None:
            metrics.close()
    if done and rank() == 0:
        _export(plan, run, learner, source)
    return done


class _State:
    """What a checkpoint holds."""

    def __init__(
        self,
        plan: Plan,
        run: Path,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        num_bad: int,
    ) -> None:
        self.learner = learner
        self.optimizer = optimizer
        self.num_bad = num_bad
        self._run = run
        self._keep = plan.config.run.keep_checkpoints
        self._saved = -1

    def save(self, step: int) -> None:
        """Write the state after a step, once."""
        if rank() == 0 and step != self._saved:
            state = {
                "step": step,
                "num_bad": self.num_bad,
                "learner": self.learner.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            save_checkpoint(self._run, step, state, keep=self._keep)
        self._saved = step


def _resume(
    run: Path, learner: Learner, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[int, int]:
    """Steps that are done, and groups that were bad so far."""
    found = checkpoints(run)
    if not found:
        return 0, 0
    state = load_checkpoint(found[-1])
    try:
        learner.load_state_dict(state["learner"], strict=True)
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as exc:
        told = " ".join(str(exc).split())[:200]
        raise CheckpointError(
            f"{found[-1]}: of another model or objective ({told}); give another --out, or --fresh"
        ) from exc
    return int(state["step"]), int(state.get("num_bad", 0))


def _steps_of(
    plan: Plan,
    source: Source,
    module: nn.Module,
    state: _State,
    device: torch.device,
    first: int,
    stopped: Callable[[], bool],
    metrics: Metrics | None,
    on_step: Callable[[int, dict[str, float]], None],
) -> bool:
    config, control = plan.config, Control()
    batches = Batches(source, plan.table, plan.batch, rank=rank(), world=world_size())
    stream = load(
        batches,
        range(first, plan.num_steps),
        num_workers=config.data.workers,
        pin_memory=device.type == "cuda",
    )
    module.train()
    window, skipped = _Window(), 0
    for step in range(first, plan.num_steps):
        with window.waiting():
            batch = next(stream)
        for told in batch.bad:
            _log.warning("replaced a group: %s", told)
        stop, num_bad = control.total(int(stopped()), len(batch.bad))
        state.num_bad += num_bad
        if state.num_bad > config.data.max_bad_groups:
            state.save(step)
            raise DataError(
                f"{source.url}: {state.num_bad} groups could not be read by step {step}, "
                f"data.max_bad_groups allows {config.data.max_bad_groups}; run `synth verify`"
            )
        if stop:
            state.save(step)
            return False
        rate = learning_rate(
            step, peak=plan.peak_rate, warmup_steps=plan.warmup_steps, num_steps=plan.num_steps
        )
        # Dropout and stochastic depth: a function of the step, so a resumed run draws the same.
        torch.manual_seed(int(generator("model", config.run.seed, step, rank()).integers(2**62)))
        set_learning_rate(state.optimizer, rate)
        loss, parts, norm = _step(plan, module, state, batch, device)
        skipped = 0 if math.isfinite(norm) else skipped + 1
        finished = step + 1
        if skipped:
            _log.warning("step %d: gradients are not finite, it was skipped", finished)
        if skipped == MAX_SKIPPED_IN_A_ROW:
            state.save(finished)
            raise DivergedError(
                f"gradients were not finite for {skipped} steps in a row, the last is {finished}; "
                "lower optimizer.lr_per_256, warm up longer, or train in fp32"
            )
        values: dict[str, float] = {}
        window.count(plan.crops_per_step)
        if finished % config.run.log_every == 0 or finished == plan.num_steps:
            values = _mean_over_ranks({"loss": loss, **parts})
            values |= {"epoch": finished * plan.batch.num_groups / len(plan.table)}
            values |= {"lr": rate, "grad_norm": norm, "bad_groups": state.num_bad}
            values |= window.read()
            if metrics is not None:
                metrics.write(finished, values)
        if finished % config.run.checkpoint_every == 0 or finished == plan.num_steps:
            state.save(finished)
        on_step(finished, values)
    return True


def _step(
    plan: Plan, module: nn.Module, state: _State, batch: Batch, device: torch.device
) -> tuple[torch.Tensor, dict[str, torch.Tensor], float]:
    """Forward, backward and, if the gradients are finite, the optimizer."""
    groups = Groups(
        ids=batch.ids.to(device, non_blocking=True),
        rows_per_group=plan.batch.views_per_group * plan.batch.crops_per_view,
        captions=batch.captions,
    )
    terms = module(
        batch.images.to(device, non_blocking=True),
        batch.colours.to(device, non_blocking=True),
        groups,
    )
    state.optimizer.zero_grad(set_to_none=True)
    terms.total.backward()
    # After the average over ranks the gradients are the same everywhere, and so is this decision.
    limit = plan.config.optimizer.clip_norm or math.inf
    norm = float(nn.utils.clip_grad_norm_(state.learner.parameters(), limit))
    if math.isfinite(norm):
        state.optimizer.step()
        state.learner.objective.after_step()
    return terms.total.detach(), {n: each.detach() for n, each in terms.parts.items()}, norm


def _mean_over_ranks(values: dict[str, torch.Tensor]) -> dict[str, float]:
    stacked = torch.stack([each.float() for each in values.values()])
    if world_size() > 1:
        dist.all_reduce(stacked)
        stacked /= world_size()
    return dict(zip(values, stacked.tolist(), strict=True))


class _Window:
    """Rates since they were last read."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._start, self._waited, self._crops = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time inside is spent waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def count(self, crops: int) -> None:
        self._crops += crops

    def read(self) -> dict[str, float]:
        """Images a second over all ranks, and the part of the time that data was waited for."""
        elapsed = time.perf_counter() - self._start
        found = {"images_per_s": self._crops / elapsed, "data_wait": self._waited / elapsed}
        self._reset()
        return found


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or SIGUSR1 came, as Slurm sends before it takes a job away."""
    came: list[int] = []
    kinds = (signal.SIGTERM, signal.SIGUSR1)
    before = {
        kind: signal.signal(kind, lambda number, frame: came.append(number)) for kind in kinds
    }
    try:
        yield lambda: bool(came)
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _export(plan: Plan, run: Path, learner: Learner, source: Source) -> None:
    made = {
        "objective": plan.config.objective["name"],
        "steps": plan.num_steps,
        "set": {"url": source.url, "root_sha256": source.root},
    }
    save_encoder(run, learner.encoder, plan.spec, made)
    if isinstance(text := learner.objective.texts(), ImageText):
        save_text(run, text)
