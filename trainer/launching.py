"""Start the ranks of one machine: the same command again, once for each of them.

It does not import torch, so that the process that only waits for the ranks stays small.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from manifests.foundation.errors import ConfigError

STORE_VARIABLE = "SYNTH_STORE"
"""Environment variable that names the file in which the ranks meet, so that no port is taken."""

_IN_STEP = "SLURM_STEP_ID"
"""Only srun sets it. A shell of sbatch or salloc has the other variables, too, but is no rank."""

_PR_SET_PDEATHSIG = 1

GRACE_S = 20.0
"""Time that the other ranks have to end by themselves when one has failed."""


def num_ranks() -> int:
    """Number of processes that `--nproc`, torchrun or srun started; 1 for a process by itself."""
    return int(os.environ.get("WORLD_SIZE", _slurm("SLURM_NTASKS", "1")))


def rank_number() -> int:
    """Number of this process among them."""
    return int(os.environ.get("RANK", _slurm("SLURM_PROCID", "0")))


def _slurm(name: str, default: str) -> str:
    return os.environ.get(name, default) if _IN_STEP in os.environ else default


def launch(nproc: int) -> int | None:
    """Run this very command in `nproc` processes and wait for all of them.

    When one fails the others are ended. SIGTERM and SIGUSR1 are passed on to the ranks.

    Returns:
        Exit status of the first rank that failed, 0 if none did. None if the caller has to train in
        this process, because it is a rank itself or because `nproc` is 1.

    Raises:
        ConfigError: torchrun has started this process.
    """
    if STORE_VARIABLE in os.environ:
        return None
    if "RANK" in os.environ:
        raise ConfigError("--nproc: torchrun has started the ranks already; leave it out")
    if nproc == 1:
        return None
    with tempfile.TemporaryDirectory(prefix="synth-train-") as scratch:
        # Handlers come before the first rank, so that a signal in between reaches all there are.
        ranks: list[subprocess.Popen[bytes]] = []
        for kind in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(kind, lambda number, frame: _send(ranks, number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the ranks itself
        for rank in range(nproc):
            ranks.append(_start(rank, nproc, Path(scratch)))
        failed = _wait(ranks)
        status = failed.returncode if failed else 0
        if status < 0:  # ended by a signal: say so as a shell does
            status = 128 - status
        # Rank 0 writes to this terminal. Of the others only the one that failed first is quoted.
        failed_rank = next((rank for rank in range(nproc) if ranks[rank] is failed), 0)
        if failed_rank:
            sys.stderr.write(_reason(Path(scratch), failed_rank, ranks[failed_rank].returncode))
    return status


def _start(rank: int, nproc: int, scratch: Path) -> "subprocess.Popen[bytes]":
    threads = max((os.cpu_count() or 1) // nproc, 1)
    ours = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(nproc),
        "LOCAL_WORLD_SIZE": str(nproc),
        STORE_VARIABLE: str(scratch / "store"),
    }
    default = {"OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"}
    if not sys.platform.startswith("linux"):
        del default["GLOO_SOCKET_IFNAME"]
    command = [sys.executable, *sys.orig_argv[1:]]
    with (scratch / f"{rank}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            env={**default, **os.environ, **ours},
            stdout=None if rank == 0 else log,
            stderr=None if rank == 0 else log,
            preexec_fn=_before_start,
        )


def _before_start() -> None:
    """Prepare the process of a rank."""
    # A process inherits which signals its parent ignores; a rank is to be stopped by SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        # A launcher that is killed cannot end its ranks, so the system sends them SIGTERM.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _send(ranks: "list[subprocess.Popen[bytes]]", number: int) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(number)


def _wait(ranks: "list[subprocess.Popen[bytes]]") -> "subprocess.Popen[bytes] | None":
    """Wait until all ranks have ended; returns the one that failed first, if one did."""
    while True:
        running = [rank for rank in ranks if rank.poll() is None]
        if failed := [rank for rank in ranks if rank.returncode]:
            _wait_for_others(ranks)
            for rank in running:
                if rank.poll() is None:
                    rank.kill()
                    rank.wait()
            return failed[0]
        if not running:
            return None
        time.sleep(0.05)


def _wait_for_others(ranks: "list[subprocess.Popen[bytes]]") -> None:
    """Give the others time to end by themselves: if they stop for the same reason, they say it."""
    end = time.monotonic() + GRACE_S
    while time.monotonic() < end and any(rank.poll() is None for rank in ranks):
        time.sleep(0.05)


def _reason(scratch: Path, rank: int, status: int) -> str:
    """Why a rank failed: the signal that ended it, or else the last thing that it said."""
    if status < 0:
        return f"rank {rank}: was ended by {signal.Signals(-status).name}\n"
    text = (scratch / f"{rank}.log").read_text("utf-8", "replace").strip()
    return f"rank {rank}: {text.splitlines()[-1] if text else 'said nothing'}\n"
