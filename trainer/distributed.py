"""Ranks: the process group that they form, and the device of each."""

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import one_line
from trainer.devices import device_type
from trainer.errors import TrainerError
from trainer.launching import STORE_VARIABLE, num_ranks, rank_number


def rank() -> int:
    """Number of this process, 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


TIMEOUT_S = 300.0
"""A rank that waits longer than this for another one ends with an error, if not told otherwise."""


@contextmanager
def process_group(device: torch.device, *, timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Join the ranks that `--nproc`, torchrun or srun started; a single process joins nothing.

    A rank that waits longer than `timeout_s` for another one ends with an error.

    When the block ends, with or without an error, no thread of the group is left. One that outlived
    the interpreter would abort the process, and hide its exit status.

    Raises:
        TrainerError: srun started ranks that do not know where to meet.
    """
    world = num_ranks()
    if world == 1:
        yield
        return
    store = os.environ.get(STORE_VARIABLE)
    if store is None and "MASTER_ADDR" not in os.environ:
        raise TrainerError(
            f"{world} ranks were started without MASTER_ADDR and MASTER_PORT; start with torchrun, "
            "or export both in the srun script"
        )
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{store}" if store else "env://",
            rank=rank_number(),
            world_size=world,
            timeout=timedelta(seconds=timeout_s),
        )
    except RuntimeError as exc:
        raise TrainerError(
            f"rank {rank_number()}: the {world} ranks did not meet ({one_line(exc)}); look at the "
            f"output of the others, or give more than {timeout_s:g} s as run.timeout_s"
        ) from exc
    try:
        yield
    except BaseException as exc:
        _forget_locals(exc)
        raise
    finally:
        dist.destroy_process_group()
        gc.collect()  # DistributedDataParallel, which keeps the group, is part of a cycle


def _forget_locals(exc: BaseException | None) -> None:
    """Clear the frames of a traceback, which keep the trained module and with it the group."""
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__


def local_device(name: str) -> torch.device:
    """`auto` is this rank's GPU if there is one, else the CPU.

    Raises:
        ConfigError: No such device here.
    """
    if name == "auto":
        name = device_type(name)
    if name == "cuda" and torch.cuda.is_available():
        count = torch.cuda.device_count()
        local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
        # srun may show each rank a single GPU, so there a local rank beyond it is no mistake.
        if local >= count > 1 or ("LOCAL_RANK" in os.environ and local >= count):
            raise ConfigError(f"rank {local} of this machine has no GPU, there are {count}")
        name = f"cuda:{min(local, count - 1)}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as exc:
        raise ConfigError(f"device {name!r} cannot be used here ({one_line(exc)})") from exc
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
