"""Breaks real runs of `synth generate` by seeded random schedules, and compares what comes out.

    python -m benchmarks.chaos --work FOLDER [--schedules 200] [--out results/chaos.json]

Each schedule makes a set of 24 shards in a folder or in a bucket, in one process or on two Ray
nodes, and breaks it at random moments: drivers, workers, nodes and the S3 gateway are killed,
processes are frozen while others do their work, several drivers run at once, requests to the bucket
fail. Then the same command runs until the set is sealed, and the set is compared with one that
nobody disturbed. The bucket is on a Ceph of its own where that is installed (and this is root), or
else on an emulator. Schedules that were run before are not run again.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import fsspec

from benchmarks import machine
from manifests.shard_set import ShardSet
from manifests.validation import validate_shard_set
from tests.cluster import TwoNodes, two_nodes
from tests.fault_proxy import FAULTS, Faults, fault_proxy
from tests.object_store import s3_clients_of, s3_server
from tests.servers.ceph import Ceph, ceph, is_installed

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "chaos.json"
NUM_CAPTIONS, VIEWS, VIEW_S = 24, 4, 0.02
FAULT_RATE = 0.05
MAX_RUNS = 12
"""Drivers that may be started before a schedule counts as one that does not come to an end."""
RUN_S = 300.0
FROZEN_S = 20.0
"""How long a driver is frozen at most."""
SETTINGS = {"SYNTH_STORAGE_SILENCE_S": "3", "SYNTH_STORAGE_PATIENCE_S": "90", "PYTHONPATH": "."}
ON_ANY = ("kill driver", "stop driver", "freeze driver", "second driver")
ON_RAY = ("kill worker", "freeze worker", "kill node", "late node")
ON_BUCKET = ("break requests", "break requests", "kill gateway")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What is broken, and after how many rendered views."""

    number: int
    storage: str
    """`folder` or `bucket`."""
    executor: str
    events: list[tuple[int, str]]

    @classmethod
    def draw(cls, number: int) -> "Schedule":
        """The schedule of a seed: the same on every machine."""
        rng = random.Random(f"schedule {number}")
        storage, executor = ("folder", "bucket")[number % 2], ("inline", "ray")[number % 4 // 2]
        kinds = [*ON_ANY]
        kinds += ON_RAY if executor == "ray" else ()
        kinds += ON_BUCKET if storage == "bucket" else ()
        last = NUM_CAPTIONS * VIEWS
        events = [(rng.randrange(last), rng.choice(kinds)) for _ in range(rng.randint(1, 4))]
        return cls(number=number, storage=storage, executor=executor, events=sorted(events))


@dataclass(kw_only=True)
class Outcome:
    """What became of a set, and what it took."""

    lost: int = 0
    """Views of the undisturbed set that are not in this one."""
    doubled: int = 0
    corrupt: int = 0
    """Faults that `synth verify` finds."""
    differing: int = 0
    """Views with other bytes, and tars and manifests."""
    rendered: int = 0
    """Views that were rendered, again or for the first time."""
    runs: int = 0
    statuses: list[int] = field(default_factory=list)
    """Exit statuses of drivers."""
    seconds: float = 0.0

    @property
    def is_right(self) -> bool:
        return not (self.lost or self.doubled or self.corrupt or self.differing)


@dataclass(kw_only=True)
class Place:
    """Where schedules run: what is shared between them, and what they may break."""

    folder: Path
    captions: Path
    nodes: TwoNodes | None
    faults: Faults | None
    gateway: Ceph | None

    def command(self, url: str, executor: str, log: Path, workers: int) -> list[str]:
        words = [*("generate", "--prompts", self.captions, "--out", url)]
        words += ["--renderer", "benchmarks.noise:Noise", "--views-per-subject", VIEWS]
        words += ["--subjects-per-shard", 1, "--executor", executor]
        words += ["--set", f"renderer.view_s={VIEW_S}", "--set", f"renderer.log={log}"]
        if executor == "ray":
            assert self.nodes
            words += ["--ray-address", self.nodes.address, "--workers", workers]
        return [sys.executable, "-m", "synth", *map(str, words)]


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

    def start(self) -> subprocess.Popen[str]:
        """One more driver."""
        if self.outcome.runs >= MAX_RUNS:
            raise AssertionError(f"{self.schedule}: not sealed after {MAX_RUNS} drivers")
        self.outcome.runs += 1
        command = self.place.command(
            self.url, self.schedule.executor, self.log, self.rng.randint(1, 4)
        )
        command += ["--retry-failed"] if 3 in self.outcome.statuses[-1:] else []
        with self.log.with_suffix(".out").open("a") as output:
            driver = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | SETTINGS,
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
        return [pid for pid in _descendants(self.place.nodes.process.pid) if _is_actor(pid)]


def _descendants(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(path.parent.name))
    found, left = [], [root]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def _is_actor(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_Actor")
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


EVENTS: Mapping[str, Callable[[Run], None]] = {
    "kill driver": _kill_driver,
    "stop driver": _stop_driver,
    "freeze driver": _freeze_driver,
    "second driver": _second_driver,
    "kill worker": _kill_worker,
    "freeze worker": _freeze_worker,
    "kill node": _kill_node,
    "late node": _late_node,
    "break requests": _break_requests,
    "kill gateway": _kill_gateway,
}


def run_schedule(place: Place, schedule: Schedule, reference: ShardSet) -> Outcome:
    """Make a set as the schedule says, and compare it."""
    start = time.monotonic()
    name = f"set-{schedule.number:03d}"
    folder = place.folder / name
    folder.mkdir()
    url = f"s3://sets/{name}" if schedule.storage == "bucket" else str(folder / "set")
    rng = random.Random(f"events {schedule.number}")
    run = Run(place, schedule, url, folder / "rendered.txt", rng)
    try:
        for num_views, kind in schedule.events:
            run.reach(num_views)
            EVENTS[kind](run)
        run.finish()
    finally:
        if place.faults:
            place.faults.times = 0
        for driver in run.drivers:
            driver.kill()
            driver.wait()
    outcome = run.outcome
    outcome.rendered = run.rendered()
    compare(ShardSet.open(url), reference, outcome)
    outcome.seconds = round(time.monotonic() - start, 1)
    if outcome.is_right:
        shutil.rmtree(folder)
        if schedule.storage == "bucket":
            fsspec.filesystem("s3").rm(f"sets/{name}", recursive=True)
    return outcome


def compare(shards: ShardSet, reference: ShardSet, outcome: Outcome) -> None:
    """Count what is wrong with a set."""
    outcome.corrupt = len([*validate_shard_set(shards)]) + (shards.seal() is None)
    rows, expected = [
        [row for shard in one.committed() for row in one.manifest(shard).rows if row.is_ok]
        for one in (shards, reference)
    ]
    keys = Counter(row.key for row in rows)
    outcome.doubled = sum(count - 1 for count in keys.values())
    outcome.lost = sum(row.key not in keys for row in expected)
    digests = {row.key: row.sha256 for row in expected}
    outcome.differing = sum(digests.get(row.key) != row.sha256 for row in rows)
    for shard in reference.committed():
        for path in (shards.layout.tar(shard), shards.layout.manifest(shard)):
            outcome.differing += shards.store.read(path) != reference.store.read(path)


@contextmanager
def opened(work: Path, *, storage: bool, ray: bool) -> Iterator[Place]:
    """A folder, and where they are wanted a bucket behind a proxy and two Ray nodes."""
    work.mkdir(parents=True, exist_ok=True)
    captions = work / "captions.txt"
    captions.write_text("".join(f"thing number {index}\n" for index in range(NUM_CAPTIONS)))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=work)))
        faults = gateway = nodes = None
        if storage:
            if is_installed():
                gateway = stack.enter_context(ceph(folder / "ceph"))
                server = gateway.address
            else:
                server = stack.enter_context(s3_server(folder))
            address, faults = stack.enter_context(fault_proxy(server))
            stack.enter_context(s3_clients_of(address))
            fsspec.filesystem("s3").mkdir("sets")
        if ray:
            nodes = stack.enter_context(two_nodes())
        yield Place(folder=folder, captions=captions, nodes=nodes, faults=faults, gateway=gateway)


def undisturbed(place: Place) -> ShardSet:
    """The set that all others must be equal to."""
    url, log = str(place.folder / "reference"), place.folder / "reference.txt"
    command = place.command(url, "inline", log, 1)
    subprocess.run(command, cwd=ROOT, env=os.environ | SETTINGS, check=True, capture_output=True)
    return ShardSet.open(url)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum of all schedules."""
    planned = NUM_CAPTIONS * VIEWS
    kinds = Counter(kind for row in rows for _, kind in row["events"])
    redone = [row["rendered"] / planned - 1 for row in rows]
    return {
        "schedules": len(rows),
        "right": sum(not any(row[name] for name in _FAULTS) for row in rows),
        **{name: sum(row[name] for row in rows) for name in _FAULTS},
        "events": dict(sorted(kinds.items())),
        "drivers": sum(row["runs"] for row in rows),
        "redone_mean": round(sum(redone) / len(redone), 3),
        "redone_max": round(max(redone), 3),
        "seconds": round(sum(row["seconds"] for row in rows)),
        "machine": machine.describe(),
    }


_FAULTS = ("lost", "doubled", "corrupt", "differing")


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--schedules", type=click.IntRange(1), default=200, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(work: Path, schedules: int, out: Path) -> None:
    journal = work / "schedules.jsonl"
    rows = (
        [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    )
    with opened(work, storage=True, ray=True) as place:
        store = "Ceph" if place.gateway else "an emulator"
        click.echo(f"{machine.describe()}; buckets on {store}")
        reference = undisturbed(place)
        for number in range(len(rows), schedules):
            schedule = Schedule.draw(number)
            outcome = run_schedule(place, schedule, reference)
            row = {**asdict(schedule), **asdict(outcome), "store": store}
            rows.append(row)
            with journal.open("a") as file:
                file.write(json.dumps(row) + "\n")
            events = ", ".join(f"{kind} at {views}" for views, kind in schedule.events)
            verdict = "equal" if outcome.is_right else f"WRONG {outcome}"
            click.echo(f"{number}: {schedule.storage}, {schedule.executor}, {events}: {verdict}")
    result = summary(rows)
    click.echo(json.dumps(result, indent=2))
    if len(rows) >= schedules:
        out.write_text(json.dumps(result, indent=2) + "\n")
    if result["right"] < len(rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
