"""The training loop: from a set and a recipe to an encoder, step by step."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from manifests.canonical import hash_json
from manifests.foundation.errors import SynthError
from manifests.foundation.messages import one_line
from trainer.checkpointing import checkpoints, load_checkpoint, save_checkpoint
from trainer.data.batches import Batch, Batches, load
from trainer.data.draws import generator
from trainer.data.sources import Source
from trainer.distributed import Control, collective_errors, rank, world_size
from trainer.errors import CheckpointError, DataError, DivergedError
from trainer.learner import Learner
from trainer.metrics import Metrics
from trainer.models.encoder import save_encoder
from trainer.models.text import ImageText, save_text
from trainer.objectives import Groups
from trainer.optimization import learning_rate, make_optimizer, set_learning_rate
from trainer.planning import Plan
from trainer.runs import enter_run, surroundings

MAX_SKIPPED_IN_A_ROW = 5
"""Steps whose gradients are not finite before the run gives up."""

_log = logging.getLogger(__name__)


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
    optimizer = make_optimizer(learner, config.optimizer)
    control = Control()
    if rank() == 0:
        facts = surroundings(world_size(), device)
        facts["set"] = {"url": source.url, "num_groups": len(plan.table)}
        facts["set"]["num_left_out"] = plan.num_left_out
        enter_run(run, plan.identity, facts, fresh=fresh)
    control.wait()  # the others look for checkpoints when rank 0 has entered the folder
    first, num_bad = _resume(run, plan, learner, optimizer)
    if len(set(control.texts([str(first)]))) > 1:
        raise CheckpointError(
            f"{run}: rank {rank()} would go on from step {first}, others from another; --out must "
            "be one folder that all ranks share"
        )
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
            steps = _Steps(plan, source, module, state, device, control)
            done = steps.run(first, stopped, metrics, on_step)
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
        self._plan = plan

    def save(self, step: int, control: Control) -> None:
        """Write the state after a step; no rank goes on, or leaves, before it is on disk."""
        if rank() == 0:
            state = {
                "step": step,
                "identity": hash_json(self._plan.identity),
                "num_bad": self.num_bad,
                "learner": self.learner.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            save_checkpoint(self._run, step, state, keep=self._plan.config.run.keep_checkpoints)
        control.wait()


def _resume(
    run: Path, plan: Plan, learner: Learner, optimizer: torch.optim.Optimizer
) -> tuple[int, int]:
    """Steps that are done, and groups that were bad so far."""
    found = checkpoints(run)
    if not found:
        return 0, 0
    state = load_checkpoint(found[-1])
    advice = "give another --out, or --fresh"
    if state.get("identity") != hash_json(plan.identity):
        raise CheckpointError(f"{found[-1]}: of another model, objective or set; {advice}")
    try:
        learner.load_state_dict(state["learner"], strict=True)
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as exc:
        raise CheckpointError(
            f"{found[-1]}: does not fit the model ({one_line(exc)}); {advice}"
        ) from exc
    return int(state["step"]), int(state.get("num_bad", 0))


class _Steps:
    """The loop itself. Whatever ends it ends it on all ranks at the same step."""

    def __init__(
        self,
        plan: Plan,
        source: Source,
        module: nn.Module,
        state: _State,
        device: torch.device,
        control: Control,
    ) -> None:
        self._plan = plan
        self._source = source
        self._module = module
        self._state = state
        self._device = device
        self._control = control
        self._num_skipped = 0

    def run(
        self,
        first: int,
        stopped: Callable[[], bool],
        metrics: Metrics | None,
        on_step: Callable[[int, dict[str, float]], None],
    ) -> bool:
        """Take the steps from `first` on; False if a signal came before the last."""
        plan, config, state = self._plan, self._plan.config, self._state
        stream = load(
            Batches(self._source, plan.table, plan.batch, rank=rank(), world=world_size()),
            range(first, plan.num_steps),
            num_workers=config.data.workers,
            pin_memory=self._device.type == "cuda",
        )
        self._module.train()
        window = _Window()
        for step in range(first, plan.num_steps):
            with window.waiting():
                batch = self._next(stream, step, stopped)
            if batch is None:
                return False
            rate = learning_rate(
                step, peak=plan.peak_rate, warmup_steps=plan.warmup_steps, num_steps=plan.num_steps
            )
            set_learning_rate(state.optimizer, rate)
            with collective_errors():
                loss, parts, norm = self._step(step, batch)
            finished = step + 1
            self._guard(finished, norm)
            window.count(plan.crops_per_step)
            values: dict[str, float] = {}
            if finished % config.run.log_every == 0 or finished == plan.num_steps:
                with collective_errors():
                    values = _mean_over_ranks({"loss": loss, **parts})
                values |= {"epoch": finished * plan.batch.num_groups / len(plan.table)}
                values |= {"lr": rate, "grad_norm": norm, "bad_groups": state.num_bad}
                values |= window.read()
                if metrics is not None:
                    metrics.write(finished, values)
            if finished % config.run.checkpoint_every == 0 or finished == plan.num_steps:
                state.save(finished, self._control)
            on_step(finished, values)
        return True

    def _next(
        self, stream: Iterator[Batch], step: int, stopped: Callable[[], bool]
    ) -> Batch | None:
        """The next batch; None if a signal came, with a checkpoint written.

        A rank that cannot read tells the others first: none waits for it, and all say why.
        """
        batch: Batch | None = None
        failure: Exception | None = None
        try:
            batch = next(stream)
        except SynthError as exc:
            failure = exc
        bad = batch.bad if batch is not None else []
        stop, num_bad, num_failed = self._control.total(
            int(stopped()), len(bad), int(failure is not None)
        )
        if num_failed:
            told = self._control.texts([] if failure is None else [str(failure)])
            if step:
                self._state.save(step, self._control)  # what is learned so far is whole
            raise failure or DataError(told[0])
        if stop:  # the batch is not counted: it is read again
            self._state.save(step, self._control)
            return None
        if num_bad:
            self._count(step, self._control.texts(bad))
        return batch

    def _count(self, step: int, told: list[str]) -> None:
        state, allowed = self._state, self._plan.config.data.max_bad_groups
        if rank() == 0:
            for text in told:
                _log.warning("replaced a group: %s", text)
        if state.num_bad + len(told) > allowed:
            state.save(step, self._control)
            raise DataError(
                f"{self._source.url}: {state.num_bad + len(told)} groups could not be read by step "
                f"{step}, data.max_bad_groups allows {allowed}; the last is {told[-1]}"
            )
        state.num_bad += len(told)

    def _step(self, step: int, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor], float]:
        """Forward, backward and, if the gradients are finite, the optimizer."""
        plan, state, device = self._plan, self._state, self._device
        # Dropout and stochastic depth: a function of the step, so a resumed run draws the same.
        seed = generator("model", plan.config.run.seed, step, rank()).integers(2**62)
        torch.manual_seed(int(seed))
        buffers = [(each, each.clone()) for each in state.learner.buffers()]
        groups = Groups(
            ids=batch.ids.to(device, non_blocking=True),
            rows_per_group=plan.batch.views_per_group * plan.batch.crops_per_view,
            captions=batch.captions,
        )
        terms = self._module(
            batch.images.to(device, non_blocking=True),
            batch.colours.to(device, non_blocking=True),
            groups,
        )
        state.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        # After the average over ranks the gradients are the same everywhere: so is what follows.
        parameters = [each for each in state.learner.parameters() if each.grad is not None]
        total = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if plan.config.optimizer.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, plan.config.optimizer.clip_norm, total)
        norm = float(total)
        if math.isfinite(norm):
            state.optimizer.step()
            state.learner.objective.after_step()
        else:  # the statistics of batch norms are not finite either
            for buffer, before in buffers:
                buffer.copy_(before)
        return terms.total.detach(), {n: each.detach() for n, each in terms.parts.items()}, norm

    def _guard(self, finished: int, norm: float) -> None:
        self._num_skipped = 0 if math.isfinite(norm) else self._num_skipped + 1
        if self._num_skipped and rank() == 0:
            _log.warning("step %d: gradients are not finite, it was skipped", finished)
        if self._num_skipped == MAX_SKIPPED_IN_A_ROW:
            raise DivergedError(
                f"gradients were not finite for {self._num_skipped} steps in a row, the last is "
                f"{finished}; lower optimizer.lr_per_256, warm up longer, or train in fp32, with "
                "--fresh"
            )


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
    if broken := [n for n, each in learner.state_dict().items() if not each.isfinite().all()]:
        raise DivergedError(f"{run}: {broken[0]} is not finite, nothing was exported; see metrics")
    made = {
        "objective": plan.config.objective["name"],
        "steps": plan.num_steps,
        "set": {"url": source.url, "root_sha256": source.root},
    }
    save_encoder(run, learner.encoder, plan.spec, made)
    if isinstance(text := learner.objective.texts(), ImageText):
        save_text(run, text)
