"""Real processes over gloo that meet in a file: no port is taken."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIMEOUT_S = 60.0


def run_ranks(function: Callable[..., None], world: int, *arguments: Any, scratch: Path) -> None:
    """Call `function(rank, world, *arguments)` in so many processes; any failure fails the test."""
    store = scratch / "store"
    mp.spawn(_rank, (function, world, str(store), arguments), nprocs=world)


def _rank(
    rank: int, function: Callable[..., None], world: int, store: str, arguments: tuple[Any, ...]
) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=TIMEOUT_S),
    )
    try:
        function(rank, world, *arguments)
    finally:
        dist.destroy_process_group()
