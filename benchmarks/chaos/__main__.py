"""Breaks real runs of `synth generate` by seeded random schedules, and compares what comes out.

    python -m benchmarks.chaos --work FOLDER [--schedules 200] [--out results/chaos.json]

Each schedule makes a set of 24 shards in a folder or in a bucket, in one process or on two Ray
nodes, and breaks it at random moments: drivers, workers, nodes and the S3 gateway are killed,
processes are frozen while others do their work, several drivers run at once, requests to the bucket
fail, the disk is full, frozen or read-only, and prompts hang or kill the process that renders them,
a few times each. Then the same command runs until the set is sealed, and the set is compared with
one that nobody disturbed. Root has a disk for it, and a Ceph where that is
installed; for others drivers are stopped in place of the disk, and the bucket is on an emulator.
Schedules that were run before are not run again.
"""

import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import fsspec

from benchmarks import machine
from benchmarks.chaos.events import Run
from benchmarks.chaos.places import NUM_CAPTIONS, ROOT, SETTINGS, VIEWS, Place, opened
from benchmarks.chaos.schedules import Outcome, Schedule
from benchmarks.chaos.troubled import CRASH, HANG, num_spent
from manifests.shard_set import ShardSet
from manifests.validation import validate_shard_set

RESULTS = ROOT / "benchmarks" / "results" / "chaos.json"


def run_schedule(place: Place, schedule: Schedule, reference: ShardSet) -> Outcome:
    """Make a set as the schedule says, and compare it."""
    start = time.monotonic()
    name = f"set-{schedule.number:03d}"
    folder = place.folder / name
    folder.mkdir()
    url = f"s3://sets/{name}" if schedule.storage == "bucket" else str(place.sets / name)
    rng = random.Random(f"events {schedule.number}")
    run = Run(place, schedule, url, folder / "rendered.txt", rng)
    try:
        run.disturb()
        run.finish()
    finally:
        if place.faults:
            place.faults.times = 0
        for driver in run.drivers:
            driver.kill()
            driver.wait()
    outcome = run.outcome
    outcome.rendered = run.rendered()
    outcome.hangs, outcome.crashes = [num_spent(run.trouble, kind) for kind in (HANG, CRASH)]
    compare(ShardSet.open(url), reference, outcome)
    outcome.seconds = round(time.monotonic() - start, 1)
    if outcome.is_right:
        shutil.rmtree(folder)
        shutil.rmtree(place.sets / name, ignore_errors=True)
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


def undisturbed(place: Place) -> ShardSet:
    """The set that all others must be equal to."""
    url, log = str(place.folder / "reference"), place.folder / "reference.txt"
    command = place.command(url, "inline", log)
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
        "hangs": sum(row["hangs"] for row in rows),
        "crashes": sum(row["crashes"] for row in rows),
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
