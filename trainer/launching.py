"""Start the ranks of one machine: the same command again, once for each, told who it is."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from manifests.foundation.errors import ConfigError
from trainer.rendezvous import STORE_VARIABLE


def launch(nproc: int) -> int | None:
    """Run this very command in `nproc` processes and wait for all.

    The ranks meet in a file: no port is taken. When one fails the others are ended. Signals that
    stop a run are handed on.

    Returns:
        Exit status of the first rank that failed, else 0; None in a rank, and for a single one.
    """
    if STORE_VARIABLE in os.environ:
        return None
    if "RANK" in os.environ:
        raise ConfigError("--nproc: torchrun has started the ranks already; leave it out")
    if nproc == 1:
        return None
    with tempfile.TemporaryDirectory(prefix="synth-train-") as scratch:
        ranks: list[subprocess.Popen[bytes]] = []
        for kind in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(kind, lambda number, frame: _send(ranks, number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the ranks itself
        for number in range(nproc):
            ranks.append(_start(number, nproc, Path(scratch)))
        failed = _wait(ranks)
        status = failed.returncode if failed else 0
        if status < 0:  # as a shell tells of a signal
            status = 128 - status
        # Ranks that leave together say the same, and rank 0 was heard.
        first = next((number for number in range(nproc) if ranks[number] is failed), 0)
        if first:
            sys.stderr.write(_last_words(Path(scratch), first))
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
            preexec_fn=_hear_signals,
        )


def _hear_signals() -> None:
    """A process inherits what its parent ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _send(ranks: "list[subprocess.Popen[bytes]]", number: int) -> None:
    for each in ranks:
        if each.poll() is None:
            each.send_signal(number)


def _wait(ranks: "list[subprocess.Popen[bytes]]") -> "subprocess.Popen[bytes] | None":
    """The first that failed; the others are ended then."""
    while True:
        running = [each for each in ranks if each.poll() is None]
        if failed := [each for each in ranks if each.returncode]:
            _grace(ranks)
            for each in running:
                if each.poll() is None:
                    each.kill()
                    each.wait()
            return failed[0]
        if not running:
            return None
        time.sleep(0.05)


def _grace(ranks: "list[subprocess.Popen[bytes]]", grace_s: float = 20.0) -> None:
    """Ranks that stop for the same reason do so by themselves, with their last words."""
    end = time.monotonic() + grace_s
    while time.monotonic() < end and any(each.poll() is None for each in ranks):
        time.sleep(0.05)


def _last_words(scratch: Path, number: int) -> str:
    text = (scratch / f"{number}.log").read_text("utf-8", "replace").strip()
    return f"rank {number}: {text.splitlines()[-1] if text else 'said nothing'}\n"
