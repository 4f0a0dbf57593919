"""The training loop: from a plan to an encoder, step by step."""

import logging
import os
import platform
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from manifests.foundation.errors import ConfigError, SynthError
from manifests.foundation.messages import without_folders
from trainer.control import ControlChannel, collective_errors
from trainer.data.batches import (
    Batches,
    LoadedBatch,
    default_workers,
    load,
    require_shared_memory,
)
from trainer.data.shard_sets import ShardSetSource
from trainer.distributed import rank, world_size
from trainer.errors import CheckpointError, DataError, DivergedError
from trainer.exports import check_exports, export_run, exported_paths
from trainer.kept_encoders import load_kept
from trainer.learner import Learner, make_learner
from trainer.metrics import Metrics, Sink
from trainer.online_knn import OnlineKnn
from trainer.optimization import make_optimizer
from trainer.origin import Origin
from trainer.places import Place, open_place, run_files
from trainer.planning import Plan
from trainer.precision import float32_as
from trainer.rates import Rates
from trainer.runs import FILE, read_run, record_exports
from trainer.scoring import known_classes
from trainer.state import TrainingState
from trainer.steps import Stepper, StepResult
from trainer.strategies import strategy_class
from trainer.surroundings import surroundings
from trainer.weights_and_biases import WeightsAndBiases, require_package, run_id

_log = logging.getLogger(__name__)


def train(
    plan: Plan,
    out: str | Path,
    *,
    device: torch.device,
    fresh: bool = False,
    on_begin: Callable[[int, int], None] = lambda step, num_steps: None,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, values: None,
) -> signal.Signals | None:
    """Train to the end, or until a signal stops the run; one that was stopped is resumed.

    SIGTERM, SIGUSR1 and SIGINT (Ctrl-C) stop it after a step, with a checkpoint. A second SIGINT
    ends the process at once.

    Args:
        plan: What to train, on what, and for how many steps.
        out: Folder of the run, or the URL of a place in a bucket.
        device: Where this rank computes.
        fresh: Remove what an earlier run left in the folder first.
        on_begin: Called once with the number of steps that are done and the number of all steps.
        on_step: Called after each step with the number of steps that are done, and the values that
            were logged; they are empty if this step is not logged.

    Returns:
        The signal that stopped the run; None if it is at its end and its exports are written.

    Raises:
        ConfigError: An export cannot write what the recipe makes.
        CheckpointError: The folder holds another run, or a damaged one, or is being written.
        DivergedError: Gradients were not finite for several steps in a row.
        DataError: More groups could not be read than allowed.
    """
    config = plan.config
    torch.manual_seed(config.run.seed)  # all ranks draw the same first weights
    # Built before anything is written, because only a built model shows that its recipe is right.
    learner = make_learner(plan, _first_weights(plan)).to(device)
    check_exports(config.run.exports, learner.exports(), plan.spec)
    if config.run.wandb:
        require_package()
    if config.run.compile:
        learner.compile_towers()
    control = ControlChannel(timeout_s=config.run.timeout_s)
    with float32_as(config.run.precision), open_place(out) as place:
        strategy = strategy_class(config.run.strategy)(
            learner, keeps_whole=config.run.grad_cache is not None
        )
        optimizer = make_optimizer(strategy.parameters(), config.optimizer)
        state = TrainingState(plan, place.folder, strategy, optimizer)
        with place.held() if rank() == 0 else nullcontext():
            return _train(plan, place, state, control, device, fresh, on_begin, on_step)


def _train(
    plan: Plan,
    place: Place,
    state: TrainingState,
    control: ControlChannel,
    device: torch.device,
    fresh: bool,
    on_begin: Callable[[int, int], None],
    on_step: Callable[[int, dict[str, float]], None],
) -> signal.Signals | None:
    """The part of `train` in which nobody else may write into the run."""
    config = plan.config
    if len(set(control.gather([config.run.precision]))) > 1:
        raise ConfigError("run.precision: auto is not the same on all ranks; give bf16 or fp32")
    if rank() == 0:
        exports = exported_paths(config.run.exports)
        session = _session(plan, device)
        place.enter(plan.identity, session, exports=exports, fresh=fresh)
    # No rank looks for checkpoints before rank 0 has removed those of an earlier run.
    control.barrier()
    place.share(control)
    first_step = state.resume()
    if len(set(control.gather([first_step]))) > 1:
        raise CheckpointError(
            f"{place.name}: rank {rank()} would resume from step {first_step}, others from another "
            "one; --out must be one folder that all ranks share, or a URL"
        )
    on_begin(first_step, plan.num_steps)
    metrics = None
    if rank() == 0:
        metrics = Metrics(place.folder, step=first_step, sinks=_sinks(plan, place))
    try:
        with _stop_signals() as stopped:
            stepper = Stepper(plan, state, device)
            knn = OnlineKnn(plan, plan.knn_set, device) if plan.knn_set is not None else None
            loop = _Loop(plan, place, state, stepper, control, stopped, knn)
            is_done = loop.run(first_step, metrics, on_step, has_gpu=device.type == "cuda")
            reason = stopped() or signal.SIGTERM  # which another rank may have received
            if metrics is not None:
                metrics.close()
                metrics = None
            if not is_done:  # still among the signals: another SIGTERM does not end it
                place.finish(control)
                return reason
    finally:
        if metrics is not None:
            metrics.close()
    with collective_errors():
        learner = state.strategy.whole(plan)
    if learner is not None:
        _export(plan, place.folder, learner)
        record_exports(place.folder, config.run.exports, exported_paths(config.run.exports))
    place.finish(control, exports=[*exported_paths(config.run.exports), FILE])
    return None


class _Loop:
    """Takes the steps of a run. Whatever ends the run ends it on all ranks at the same step."""

    def __init__(
        self,
        plan: Plan,
        place: Place,
        state: TrainingState,
        stepper: Stepper,
        control: ControlChannel,
        stopped: Callable[[], signal.Signals | None],
        knn: OnlineKnn | None,
    ) -> None:
        self._plan = plan
        self._place = place
        self._state = state
        self._stepper = stepper
        self._control = control
        self._stopped = stopped
        self._knn = knn

    def run(
        self,
        first_step: int,
        metrics: Metrics | None,
        on_step: Callable[[int, dict[str, float]], None],
        *,
        has_gpu: bool,
    ) -> bool:
        """Take all steps from `first_step` on; False if a signal stopped the run before the end."""
        plan, run = self._plan, self._plan.config.run
        batches = Batches(plan.stream, plan.crops, seed=run.seed, rank=rank(), world=world_size())
        steps = range(first_step, plan.num_steps)
        workers, prefetch = plan.config.data.workers, plan.config.data.prefetch
        # Ranks of a machine share its memory, and its cores unless each is bound to some of them.
        cores = (platform.node(), tuple(sorted(os.sched_getaffinity(0))))
        all_cores = self._control.gather([cores])
        num_here = sum(machine == cores[0] for machine, _ in all_cores)
        held_by_one = plan.bytes_per_step * num_here // world_size() * prefetch
        if workers is None:
            sharing = all_cores.count(cores)
            workers = default_workers(held_by_one, sharing=sharing) if has_gpu else 0
        require_shared_memory(held_by_one * workers, "less of data.prefetch or data.workers")
        stream = load(batches, steps, num_workers=workers, prefetch=prefetch, pin_memory=has_gpu)
        rates = Rates()
        self._state.learner.train()
        with closing(stream):
            if not first_step and self._knn is not None:  # what the curve begins with
                self._write(metrics, 0, self._knn.score(self._state.strategy, 0))
            for step in steps:
                with rates.waiting():
                    batch = self._next(stream, step)
                if batch is None:
                    return False
                # A rank that is gone is noticed here, where gradients are averaged over the ranks.
                with collective_errors():
                    result = self._stepper.take(step, batch)
                finished = step + 1
                is_last = finished == plan.num_steps
                rates.count(plan.crops_per_step)
                values: dict[str, float] = {}
                if finished % run.log_every == 0 or is_last:
                    values = self._values(finished, result) | rates.read()
                is_kept = run.keep_every is not None and finished % run.keep_every == 0
                if self._knn is not None and (is_kept or is_last):
                    with rates.paused():
                        values |= self._knn.score(self._state.strategy, finished)
                if values:
                    self._write(metrics, finished, values)
                if finished % run.checkpoint_every == 0 or is_kept or is_last:
                    self._stepper.settle()
                    self._save(finished)
                on_step(finished, values)
        return True

    def _next(self, stream: Iterator[LoadedBatch], step: int) -> LoadedBatch | None:
        """The next batch; None if a signal came, after a checkpoint was written.

        A rank that cannot read its batch tells the others before they would wait for its gradients.
        """
        batch: LoadedBatch | None = None
        failure: Exception | None = None
        try:
            batch = next(stream)
        except SynthError as exc:
            failure = exc
        replaced = batch.replaced if batch is not None else []
        # Three counts in one small sum at every step; texts are sent only if there are any.
        num_stopped, num_replaced, num_failed = self._control.sum(
            int(self._stopped() is not None), len(replaced), int(failure is not None)
        )
        if num_failed:
            reasons = self._control.gather([] if failure is None else [str(failure)])
            if step:
                self._save_last(step)  # what was learned so far is kept
            # The rank that failed raises its own error, the others the first one that they heard.
            raise failure or DataError(reasons[0])
        if num_stopped:  # the batch is not counted, because a resumed run reads it again
            self._save(step)
            return None
        if num_replaced:
            groups = [(group.id, group.reason) for group in replaced]
            self._count_unreadable(step, self._control.gather(groups))
        return batch

    def _write(self, metrics: Metrics | None, step: int, values: Mapping[str, float]) -> None:
        if metrics is not None:
            metrics.write(step, values)
            self._place.metrics_written()

    def _save(self, step: int) -> None:
        self._state.save(step, self._control)
        if rank() == 0:
            run = self._plan.config.run
            self._place.checkpoint_written(keep=run.keep_checkpoints, keep_every=run.keep_every)

    def _save_last(self, step: int) -> None:
        """Save before an error that every rank raises."""
        self._save(step)
        self._place.finish(self._control)

    def _count_unreadable(self, step: int, groups: list[tuple[int, str]]) -> None:
        # The same group is met again in every epoch, but it counts once.
        known, allowed = self._state.unreadable, self._plan.config.data.max_bad_groups
        reasons = {group: reason for group, reason in groups if group not in known}
        if rank() == 0:
            for reason in reasons.values():
                _log.warning("replaced a group: %s", reason)
        if len(known) + len(reasons) > allowed:
            self._save_last(step)
            raise DataError(
                f"{self._plan.source.url}: {len(known) + len(reasons)} groups could not be read by "
                f"step {step}, data.max_bad_groups allows {allowed}; the last is "
                f"{list(reasons.values())[-1]}"
            )
        # Added last, so that the checkpoint above does not hold them: once the set is repaired, the
        # run may go on.
        known.update(reasons)

    def _values(self, finished: int, result: StepResult) -> dict[str, float]:
        with collective_errors():
            values = _mean_over_ranks(result.losses)
        epochs = self._plan.epochs_after(finished)
        values |= {} if epochs is None else {"epoch": epochs}
        values |= {"lr": result.rate, "grad_norm": float(result.grad_norm)}
        return values | {"bad_groups": len(self._state.unreadable)}


def _first_weights(plan: Plan) -> Mapping[str, Tensor] | None:
    """What the recipe lets the tower begin with."""
    init_from = plan.config.run.init_from
    if not init_from:
        return None
    with run_files(init_from, option="--init-from") as path:
        encoder, _ = load_kept(path)
    return encoder.state_dict()


def _session(plan: Plan, device: torch.device) -> dict[str, object]:
    """Facts about this start of the run, for `run.json`."""
    facts = surroundings(world_size(), device)
    facts["set"] = {
        "url": plan.source.url,
        "num_groups": plan.stream.num_groups,
        "num_left_out": plan.stream.num_left_out,
    }
    if plan.knn_set is not None:
        facts["knn"] = {
            "set": without_folders(plan.knn_set.name),
            "split": plan.knn_set.validation_split(),
            "metric": known_classes(plan.knn_set).metric,
        }
    return facts


def _sinks(plan: Plan, place: Place) -> list[Sink]:
    """Where numbers go besides the run itself."""
    if not plan.config.run.wandb:
        return []
    run = run_id(place.name, read_run(place.folder)["sessions"][0]["started"])
    config = plan.config.model_dump(mode="json")
    name = without_folders(place.name)
    return [WeightsAndBiases(plan.config.run.wandb, name=name, run=run, config=config)]


def _mean_over_ranks(values: dict[str, Tensor]) -> dict[str, float]:
    stacked = torch.stack([value.float() for value in values.values()])
    if world_size() > 1:
        dist.all_reduce(stacked)
        stacked /= world_size()
    return dict(zip(values, stacked.tolist(), strict=True))


@contextmanager
def _stop_signals() -> Iterator[Callable[[], signal.Signals | None]]:
    """Yield a function that gives the first signal that has come and stops the run.

    Slurm sends SIGTERM or SIGUSR1 before it takes a job away, and Ctrl-C is SIGINT. The handler
    only takes a note: a checkpoint can be written between two steps, but not in the middle of one.
    """
    received: list[signal.Signals] = []

    def note(number: int, frame: object) -> None:
        received.append(signal.Signals(number))
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if rank() == 0:
                _log.warning("stopping after this step; Ctrl-C again ends at once")

    kinds = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    handlers = {kind: signal.signal(kind, note) for kind in kinds}
    try:
        yield lambda: received[0] if received else None
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)


def _export(plan: Plan, run: Path, learner: Learner) -> None:
    if broken := [n for n, value in learner.state_dict().items() if not value.isfinite().all()]:
        raise DivergedError(f"{run}: {broken[0]} is not finite, nothing was exported; see metrics")
    origin = Origin(
        objective=plan.config.objective["name"],
        steps=plan.num_steps,
        url=without_folders(plan.source.url),
        root_sha256=plan.source.root,
        facts=plan.source.facts() if isinstance(plan.source, ShardSetSource) else None,
    )
    export_run(run, plan.config.run.exports, learner.exports(), plan.spec, origin)
