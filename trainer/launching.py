"""Start the ranks of one machine: the same command again, once for each, told who it is."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainer.distributed import STORE_VARIABLE


def launch(nproc: int) -> int | None:
    """Run this very command in `nproc` processes and wait for all.

    The ranks meet in a file: no port is taken. When one fails the others are ended. Signals that
    stop a run are handed on.

    Returns:
        Exit status of the first rank that failed, else 0; None in a rank, and for a single one.
    """
    if nproc <= 1 or "RANK" in os.environ:
        return None
    with tempfile.TemporaryDirectory(prefix="synth-train-") as scratch:
        ranks = [_start(number, nproc, Path(scratch)) for number in range(nproc)]
        for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(kind, lambda number, frame: _send(ranks, number))
        status = _wait(ranks)
        # What the others said is said already by rank 0, unless it was not the one that failed.
        if status > 0 and ranks[0].returncode < 0:
            for number in range(1, nproc):
                if ranks[number].returncode > 0:
                    sys.stderr.write(_last_words(Path(scratch), number))
                    break
    return status


def _start(number: int, nproc: int, scratch: Path) -> "subprocess.Popen[bytes]":
    threads = max((os.cpu_count() or 1) // nproc, 1)
    ours = {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(nproc),
        STORE_VARIABLE: str(scratch / "store"),
    }
    default = {"OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"}
    if not sys.platform.startswith("linux"):
        del default["GLOO_SOCKET_IFNAME"]
    command = [sys.executable, *sys.orig_argv[1:]]
    with (scratch / f"{number}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            env={**default, **os.environ, **ours},
            stdout=None if number == 0 else log,
            stderr=None if number == 0 else log,
        )


def _send(ranks: "list[subprocess.Popen[bytes]]", number: int) -> None:
    for each in ranks:
        if each.poll() is None:
            each.send_signal(number)


def _wait(ranks: "list[subprocess.Popen[bytes]]") -> int:
    """Exit status of the first that failed; the others are ended then."""
    status = 0
    while any(each.poll() is None for each in ranks):
        failed = [each.returncode for each in ranks if each.poll() not in (None, 0)]
        if failed and not status:
            status = failed[0]
            _grace(ranks)
            for each in ranks:
                if each.poll() is None:
                    each.kill()
        time.sleep(0.05)
    return status or next((each.returncode for each in ranks if each.returncode), 0)


def _grace(ranks: "list[subprocess.Popen[bytes]]", grace_s: float = 10.0) -> None:
    """Ranks that stop for the same reason do so by themselves, with their last words."""
    end = time.monotonic() + grace_s
    while time.monotonic() < end and any(each.poll() is None for each in ranks):
        time.sleep(0.05)


def _last_words(scratch: Path, number: int) -> str:
    text = (scratch / f"{number}.log").read_text("utf-8", "replace").strip()
    return f"rank {number}: {text.splitlines()[-1] if text else 'said nothing'}\n"
