"""Real processes over gloo that meet in a file, so that no port is taken."""

import atexit
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT_S = 300.0


class RankPool:
    """Processes that form one process group and run one function after another.

    Starting a process that imports torch takes seconds, so tests share a pool: see `rank_pool`.
    """

    def __init__(self, world: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._scratch = tempfile.TemporaryDirectory(prefix="synth-ranks-")
        self._connections: list[Connection] = []
        self._processes = []
        for rank in range(world):
            own_end, rank_end = context.Pipe()
            arguments = (rank, world, str(Path(self._scratch.name) / "store"), rank_end)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            rank_end.close()  # the rank has the only one left, so its end is noticed as EOFError
            self._connections.append(own_end)
            self._processes.append(process)

    def run(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function(rank, world, *arguments)` in every process and wait for all of them.

        Args:
            function: A function of a module that the processes can import.
            arguments: Are pickled and passed on.

        Raises:
            AssertionError: It failed in a process; holds the traceback. The pool is closed then,
                because the other processes may wait for the failed one.
        """
        # All ranks start before any is waited for: they may need each other.
        for connection in self._connections:
            connection.send((function, arguments))
        for rank, connection in enumerate(self._connections):
            try:
                failure = connection.recv() if connection.poll(TIMEOUT_S) else "no answer"
            except EOFError:
                failure = "the process has ended"
            if failure:
                self.close()
                rank_pool.cache_clear()  # the next test starts a new pool
                raise AssertionError(f"rank {rank}: {failure}")

    def close(self) -> None:
        """End the processes; one that does not end by itself is killed."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()
        self._scratch.cleanup()


@cache
def rank_pool(world: int) -> RankPool:
    """The pool of so many processes that all tests of this process share."""
    pool = RankPool(world)
    atexit.register(pool.close)
    return pool


def run_ranks(function: Callable[..., None], world: int, *arguments: Any) -> None:
    """Call `function(rank, world, *arguments)` in `world` processes; see `RankPool.run`."""
    rank_pool(world).run(function, *arguments)


def _serve(rank: int, world: int, store: str, connection: Connection) -> None:
    """Join the process group and run functions, until the other end of the pipe is closed."""
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
        while True:
            function, arguments = connection.recv()
            failure = ""
            try:
                function(rank, world, *arguments)
            except BaseException:  # SystemExit too: the process has to answer
                failure = traceback.format_exc()
            connection.send(failure)
    except EOFError:  # the pool is closed
        dist.destroy_process_group()
