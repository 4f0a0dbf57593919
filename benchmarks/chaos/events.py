"""A run that is going on, and what is done to it."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.chaos.disk import Disk
from benchmarks.chaos.places import ROOT, SETTINGS, VIEWS, Place
from benchmarks.chaos.schedules import ON_PROMPT, Outcome, Schedule
from benchmarks.chaos.troubled import plant
from tests.fault_proxy import FAULTS, Faults
from tests.process_tree import descendants

FAULT_RATE = 0.05
MAX_RUNS = 12
"""Drivers that may be started before a schedule counts as one that does not come to an end."""
RUN_S = 300.0
FROZEN_S = 20.0
"""How long a driver is frozen at most."""


@dataclass
class Run:
    """One schedule while it runs."""

    place: Place
    schedule: Schedule
    url: str
    log: Path
    rng: random.Random
    outcome: Outcome = field(default_factory=Outcome)
    drivers: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def trouble(self) -> Path:
        """Where prompts are trouble."""
        return self.log.with_name("trouble")

    def disturb(self) -> None:
        """All that the schedule says; trouble with prompts is planted before the first driver."""
        for view, kind in self.schedule.events:
            if kind in ON_PROMPT:
                plant(self.trouble, kind, view // VIEWS, self.rng)
        for num_views, kind in self.schedule.events:
            if kind in EVENTS:
                self.reach(num_views)
                EVENTS[kind](self)

    def start(self) -> subprocess.Popen[str]:
        """One more driver."""
        if self.outcome.runs >= MAX_RUNS:
            raise AssertionError(f"{self.schedule}: not sealed after {MAX_RUNS} drivers")
        self.outcome.runs += 1
        command = self.place.command(
            self.url,
            self.schedule.executor,
            self.log,
            workers=self.rng.randint(1, 4),
            trouble=self.trouble,
            deadline_s=self.schedule.deadline_s,
        )
        command += ["--retry-failed"] if 3 in self.outcome.statuses[-1:] else []
        with self.log.with_suffix(".out").open("a") as output:
            driver = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | SETTINGS | self.place.scratch,
                stdout=output,
                stderr=output,
                text=True,
            )
        self.drivers.append(driver)
        return driver

    def wait(self, driver: subprocess.Popen[str]) -> int:
        status = driver.wait(timeout=RUN_S)
        self.outcome.statuses.append(status)
        self.drivers.remove(driver)
        return status

    def rendered(self) -> int:
        """Views that were rendered so far."""
        return self.log.read_text().count("\n") if self.log.exists() else 0

    def reach(self, num_views: int) -> None:
        """Wait until so many views were rendered; drivers that have ended are started again."""
        end = time.monotonic() + RUN_S
        while self.rendered() < num_views and time.monotonic() < end:
            if not self.drivers:
                self.start()
            for driver in [one for one in self.drivers if one.poll() is not None]:
                if self.wait(driver) == 0:
                    return  # sealed already: whatever is broken now breaks a finished set
            time.sleep(0.01)
        time.sleep(self.rng.uniform(0, 0.1))  # into the middle of a commit, too

    def finish(self) -> None:
        """Run drivers until one says that the set is whole."""
        for driver in list(self.drivers):
            self.wait(driver)
        while self.wait(self.start()) != 0:
            pass

    def driver(self) -> subprocess.Popen[str]:
        alive = [one for one in self.drivers if one.poll() is None]
        return self.rng.choice(alive) if alive else self.start()

    def workers(self) -> list[int]:
        """Processes of Ray's workers of this cluster."""
        assert self.place.nodes
        return [pid for pid in descendants(self.place.nodes.process.pid) if _is_actor(pid)]


def _is_actor(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Actor")
    except OSError:
        return False


def _kill_driver(run: Run) -> None:
    run.driver().send_signal(signal.SIGKILL)


def _stop_driver(run: Run) -> None:
    run.driver().send_signal(signal.SIGTERM)


def _freeze_driver(run: Run) -> None:
    """Another driver does its work meanwhile; then it wakes up and goes on as if nothing was."""
    frozen = run.driver()
    frozen.send_signal(signal.SIGSTOP)
    try:
        other = run.start()
        # On Ray the frozen one keeps its cores, and the other may wait for them.
        end = time.monotonic() + FROZEN_S
        while other.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        frozen.send_signal(signal.SIGCONT)


def _second_driver(run: Run) -> None:
    run.start()


def _kill_worker(run: Run) -> None:
    if workers := run.workers():
        os.kill(run.rng.choice(workers), signal.SIGKILL)


def _freeze_worker(run: Run) -> None:
    if workers := run.workers():
        worker = run.rng.choice(workers)
        os.kill(worker, signal.SIGSTOP)
        time.sleep(2)
        os.kill(worker, signal.SIGCONT)


def _kill_node(run: Run) -> None:
    assert run.place.nodes
    run.place.nodes.kill_second()
    run.place.nodes.add_second()


def _late_node(run: Run) -> None:
    """The cluster is without its second node for some views."""
    assert run.place.nodes
    run.place.nodes.kill_second()
    run.reach(run.rendered() + 12)
    run.place.nodes.add_second()


def _break_requests(run: Run) -> None:
    """One request in twenty is broken, until the set is whole."""
    assert run.place.faults
    break_requests(run.place.faults, run.rng)


def break_requests(faults: Faults, rng: random.Random) -> None:
    """Break one request in twenty from now on."""

    def is_hit(method: str, path: str) -> bool:
        faults.fault = rng.choice(FAULTS)
        # A body that changes on its way up is a fault of TCP, against which stores have checksums.
        return rng.random() < FAULT_RATE and not (faults.fault == "flip" and method == "PUT")

    faults.plan("error", is_hit, 10_000)


def _kill_gateway(run: Run) -> None:
    if run.place.gateway is None:
        return _break_requests(run)
    run.place.gateway.kill("rgw")
    time.sleep(run.rng.uniform(0, 1))
    run.place.gateway.start_gateway()
    return None


def _disturb_disk(disturbed: Callable[[Disk], AbstractContextManager[None]], run: Run) -> None:
    """Drivers that end with an error meanwhile are started again when the disk is right."""
    if run.place.disk is None:
        return _stop_driver(run)
    with disturbed(run.place.disk):
        time.sleep(run.rng.uniform(1, 4))
    return None


EVENTS: Mapping[str, Callable[[Run], None]] = {
    "kill driver": _kill_driver,
    "stop driver": _stop_driver,
    "freeze driver": _freeze_driver,
    "second driver": _second_driver,
    "kill worker": _kill_worker,
    "freeze worker": _freeze_worker,
    "kill node": _kill_node,
    "late node": _late_node,
    "full disk": partial(_disturb_disk, Disk.full),
    "frozen disk": partial(_disturb_disk, Disk.frozen),
    "read-only disk": partial(_disturb_disk, Disk.read_only),
    "break requests": _break_requests,
    "kill gateway": _kill_gateway,
}
