"""`synth train`: a shard set in, an encoder out."""

import signal
from contextlib import AbstractContextManager, ExitStack, nullcontext
from math import isnan
from typing import Any

import click

from trainer.commands.flags import flag, keys_of_flags

_WORKERS = (
    "Loader processes of each rank. If not given, none beside a CPU that trains, and beside a GPU "
    "what cores and shared memory allow."
)


@click.command(
    epilog="\b\nExamples:\n"
    "  synth train set --out run --recipe demo\n"
    "  synth train s3://bucket/set --out run --recipe stablerep-cc12m --nproc 8\n"
    "  synth train set --out run --objective simclr --epochs 10 --dry-run"
)
@click.argument("url", metavar="SET")
@click.option(
    "--out",
    required=True,
    help="Folder of the run, or s3://, gs:// or az://. A run that was stopped is resumed.",
)
@flag("--objective", "objective.name", help="Such as stablerep, simclr or clip.")
@flag("--model", "model.model", help="Name of a timm model.")
@flag("--steps", "schedule.steps", type=int, help="Steps of the run.")
@flag("--epochs", "schedule.epochs", type=float, help="Passes over the groups, instead of --steps.")
@flag("--batch-groups", "batch.groups", type=int, help="Groups in a step, over all ranks.")
@flag(
    "--views-per-group",
    "batch.views_per_group",
    type=int,
    help="Views of each group in a step. If not given, the fewest that the objective takes.",
)
@flag("--workers", "data.workers", type=int, help=_WORKERS)
@click.option("--nproc", type=click.IntRange(1), help="Number of ranks to start on this machine.")
@flag("--seed", "run.seed", type=int, help="Seed of weights, order and crops.")
@click.option(
    "--recipe",
    help="TOML file, or name of a recipe of this package: `synth recipes` lists them.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any key of a recipe.")
@flag(
    "--init-from",
    "run.init_from",
    metavar="RUN",
    help="Begin with the encoder of a finished run, or of a checkpoint of a run.",
)
@click.option("--fresh", is_flag=True, help="Start over: remove what an earlier run left in --out.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what the run would take on --nproc ranks, memory included, and train nothing.",
)
def train(
    url: str,
    out: str,
    nproc: int | None,
    recipe: str | None,
    overrides: tuple[str, ...],
    fresh: bool,
    dry_run: bool,
    **flags: Any,
) -> None:
    """Learn an encoder from the images of SET.

    SET is the folder or URL of a sealed set, or wds:FOLDER for WebDataset tars of single images.
    The same command resumes a run that was stopped. torchrun, srun and --nproc each start several
    ranks. With --dry-run nothing is trained and --out is left alone.
    """
    from manifests.foundation.files import local_path
    from manifests.foundation.messages import redact
    from trainer.launching import launch, num_ranks, rank_number

    if "://" not in out:  # what else no place can be is refused before torch is imported
        local_path(out, option="--out")
    # Before torch is imported: the process that only starts the ranks does not need it.
    if not dry_run and nproc is not None and (status := launch(nproc)) is not None:
        raise SystemExit(status)

    from trainer.config import load_config
    from trainer.data.opening import may_read_all, open_source
    from trainer.devices import best_precision, device_type
    from trainer.places import open_place, recorded_precision
    from trainer.planning import make_plan
    from trainer.recipes import find_recipe

    keys = {
        key: flags[name] for name, key in keys_of_flags(click.get_current_context().command).items()
    }
    path = None if recipe is None else find_recipe(recipe)
    config = load_config(recipe=path, overrides=overrides, flags=keys)
    source = open_source(url)

    world = (nproc or 1) if dry_run else num_ranks()
    is_recorded = config.run.precision == "auto" and not dry_run and not fresh
    name, is_first = redact(out).rstrip("/"), rank_number() == 0  # one rank speaks for all
    with ExitStack() as group:
        # What is refused or done already costs no import of torch, where no rank waits for others.
        waits = may_read_all(url) and num_ranks() > 1 and not dry_run
        device = _join(group, config) if waits else None
        with _at_own_pace(config) if waits else nullcontext():
            plan = make_plan(
                config,
                source,
                world=world,
                origin=str(recipe or "recipe"),
                precision=(recorded_precision(out) if is_recorded else None)
                or best_precision(device_type(config.run.device)),
            )
        if dry_run:
            click.echo(_cost(plan, world))
            return
        if is_first and plan.stream.num_left_out:
            click.echo(_left_out(plan), err=True)
        if fresh:
            is_finished = False
        else:
            with open_place(out) as place:
                is_finished = place.is_at_its_end(plan.identity, formats=config.run.exports)
        if not is_finished:
            from trainer.loop import train as run_training

            device = device or _join(group, config)
            with _Shown(is_first=is_first) as shown:
                stopped_by = run_training(
                    plan, out, device=device, fresh=fresh, on_begin=shown.begin, on_step=shown.step
                )
            if stopped_by is not None:
                raise SystemExit(_status_after(stopped_by, name if is_first else None))
    if is_first:
        click.echo(
            f"{name}: {plan.num_steps:,} steps of {plan.crops_per_step:,} images, "
            f"{name}/encoder.safetensors"
        )


def _join(group: ExitStack, config: Any) -> Any:
    """Join the other ranks until the stack is closed. Returns the device of this rank."""
    from trainer.distributed import local_device, process_group

    device = local_device(config.run.device)
    group.enter_context(process_group(device, timeout_s=config.run.timeout_s))
    return device


def _at_own_pace(config: Any) -> AbstractContextManager[None]:
    """The ranks of each machine read a source for themselves, and wait for the others."""
    from trainer.control import at_own_pace

    return at_own_pace(timeout_s=config.run.timeout_s)


class _Shown:
    """How far a training is, as a bar; nothing on ranks that are not the first."""

    def __init__(self, *, is_first: bool) -> None:
        self._is_first = is_first
        self._stack = ExitStack()
        self._advance: Any = None

    def __enter__(self) -> "_Shown":
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.close()

    def begin(self, step: int, num_steps: int) -> None:
        """The run begins, or is resumed, after so many of its steps."""
        from manifests.foundation.progress import progress

        if self._is_first:
            bar = progress("train", "steps", num_steps, step)
            self._advance = self._stack.enter_context(bar)

    def step(self, step: int, values: dict[str, float]) -> None:
        """A step was taken."""
        if self._advance is None:
            return
        loss, knn = values.get("loss"), values.get("knn")
        parts = [] if loss is None else [f"loss {loss:.4g}"]
        parts += [] if knn is None or isnan(knn) else [f"k-NN {100 * knn:.1f} %"]
        self._advance(1, note=", ".join(parts))


def _status_after(stopped_by: signal.Signals, name: str | None) -> int:
    """What a shell reports of a process that a signal ended. The first rank names the run.

    Schedulers know 143, whichever of their signals they sent.
    """
    is_interrupt = stopped_by == signal.SIGINT
    if name is not None:
        by = "Ctrl-C" if is_interrupt else stopped_by.name
        click.echo(f"{name}: stopped by {by}, with a checkpoint; the same command resumes it")
    return 130 if is_interrupt else 143


def _cost(plan: Any, world: int) -> str:
    """What a run takes, as lines of text."""
    from trainer.step_cost import step_cost

    cost, epochs = step_cost(plan, world=world), plan.epochs_after(plan.num_steps)
    passes = (
        "" if epochs is None else f", {epochs:.3g} passes over {plan.stream.num_groups:,} groups"
    )
    rows = plan.crops_per_step
    lines = [
        f"tower    {plan.spec.model}, {cost.tower_parameters / 1e6:.1f} million parameters "
        f"({cost.parameters / 1e6:.1f} with heads and teacher), "
        f"{cost.image_multiply_adds / 1e9:.3g} billion multiply-adds an image",
        f"steps    {plan.num_steps:,}, {plan.warmup_steps:,} of them warm-up{passes}",
        f"step     {rows:,} images, {rows // world:,} on each of {world} ranks, "
        f"{cost.step_multiply_adds / 1e12:.3g} trillion multiply-adds a rank, in "
        f"{plan.config.run.precision}",
        f"memory   {cost.peak_bytes / 2**30:.1f} GiB a rank at the peak of a step, "
        f"{cost.state_bytes / 2**30:.1f} GiB of it always; without what the driver, kernels and "
        "the allocator take for themselves",
    ]
    if plan.config.run.strategy == "fsdp":
        lines.append("         what fsdp divides is reckoned, and was never measured")
    return "\n".join(lines)


def _left_out(plan: Any) -> str:
    """A note on groups that cannot be trained on. Only the number of all of them is known."""
    from manifests.foundation.messages import counted

    lacks = [f"fewer than {plan.demand.views_per_group} good views"]
    needed = plan.demand.reads & {"captions", "labels"}  # of what else is read, none can lack
    lacks += [f"no {name.removesuffix('s')}" for name in sorted(needed)]
    number = counted(plan.stream.num_left_out, "group")
    return f"{plan.source.url}: left out: {number} with {' or '.join(lacks)}"
