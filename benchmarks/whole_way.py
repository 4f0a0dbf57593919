"""The whole way through a bucket on Ceph, killed and broken: captions to the scores of an encoder.

    python -m benchmarks.whole_way --work FOLDER [--captions 249] [--steps 200]

A set of the embedded model is made in a bucket while its driver is killed three times, the gateway
once and one request in twenty fails; it is verified there, and an encoder learns from it there,
killed once. Beside it the same is done in a folder that nobody disturbs. Both sets must be equal to
the byte, and so must both encoders; then the encoder is scored on the unseen artist, beside an
untrained one. It needs root and Debian's packages ceph-mon, ceph-osd, radosgw and ceph-common.
Writes results/whole_way.json.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from benchmarks import machine
from benchmarks.chaos.events import break_requests
from benchmarks.chaos.places import ROOT, SETTINGS, Place, opened
from manifests.shard_set import ShardSet
from prompts.lists import EMBEDDED_LIST
from tests.servers.ceph import is_installed

RESULTS = ROOT / "benchmarks" / "results" / "whole_way.json"
VIEWS, SUBJECTS_PER_SHARD = 6, 8
TIMEOUT_S = 3600.0


def synth(*words: object) -> subprocess.Popen[str]:
    """Start a command of `synth`."""
    return subprocess.Popen(
        [sys.executable, "-m", "synth", *map(str, words)],
        cwd=ROOT,
        env=os.environ | SETTINGS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(*words: object) -> str:
    """Output of a command that must succeed."""
    process = synth(*words)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    if process.returncode:
        raise SystemExit(f"synth {words[0]}: status {process.returncode}\n{output}")
    return output


@dataclass
class WholeWay:
    """The same commands for a bucket and for a folder."""

    place: Place
    captions: Path
    steps: int
    rng: random.Random = field(default_factory=lambda: random.Random("whole way"))

    def generate(self, url: str) -> tuple[object, ...]:
        return (
            *("generate", "--prompts", self.captions, "--out", url, "--guidance", 3),
            *("--views-per-subject", VIEWS, "--steps", 5, "--batch-size", 16),
            *("--subjects-per-shard", SUBJECTS_PER_SHARD, "--executor", "inline"),
        )

    def train(self, url: str, run: Path) -> tuple[object, ...]:
        return (
            *("train", url, "--out", run, "--recipe", "demo", "--steps", self.steps),
            *("--batch-groups", 8, "--set", "schedule.warmup_steps=2"),
            *("--set", f"run.checkpoint_every={max(1, self.steps // 10)}"),
        )

    def kill(self, words: tuple[object, ...], is_time: Callable[[], bool]) -> bool:
        """Start a command and kill it when it is time; whether it was alive then."""
        process = synth(*words)
        while not is_time() and process.poll() is None:
            time.sleep(0.05)
        was_alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return was_alive

    def make_in_bucket(self, url: str) -> int:
        """Kills that met a living driver, while requests fail."""
        faults, gateway = self.place.faults, self.place.gateway
        assert faults
        assert gateway
        num_killed = 0
        break_requests(faults, self.rng)
        for number in range(3):
            limit = faults.num_requests + self.rng.randint(20, 40)
            num_killed += self.kill(self.generate(url), partial(faults.has_had, limit))
            if number == 1:
                gateway.kill("rgw")
                gateway.start_gateway()
        finished(*self.generate(url))
        return num_killed

    def train_from_bucket(self, url: str, run: Path) -> int:
        """The same, while an encoder learns."""

        def is_saved() -> bool:
            return any((run / "checkpoints").glob("*"))

        num_killed = self.kill(self.train(url, run), is_saved)
        finished(*self.train(url, run))
        return int(num_killed)


def scores_of(run: Path, pictograms: Path) -> dict[str, float]:
    """Top-1 on the unseen artist in percent, beside a tower that learned nothing."""
    scores = {}
    for name, encoder in (("encoder", str(run)), ("untrained", f"untrained:{run}")):
        out = run / f"scores-of-{name}.json"
        finished(
            *("evaluate", encoder, "--on", f"wds:{pictograms}", "--with", "knn"),
            *("--test-split", "test", "--out", out),
        )
        (score,) = json.loads(out.read_text())["scores"]
        scores[name] = round(100 * score["value"], 1)
    return scores


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--captions", "num_captions", type=click.IntRange(8), default=249, show_default=True)
@click.option("--steps", type=click.IntRange(10), default=200, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--no-scores", is_flag=True, help="Leave out the labelled set, which takes minutes.")
def main(work: Path, num_captions: int, steps: int, out: Path, no_scores: bool) -> None:
    if not is_installed():
        raise SystemExit("no Ceph here, or not root: install ceph-mon ceph-osd radosgw ceph-common")
    start = time.monotonic()
    with opened(work, storage=True, ray=False) as place:
        lines = EMBEDDED_LIST.read_text().splitlines()[:num_captions]
        captions = place.folder / "captions.jsonl"
        captions.write_text("\n".join(lines) + "\n")
        way = WholeWay(place, captions, steps)
        assert place.faults
        bucket, folder = "s3://sets/whole", place.folder / "set"
        kills = way.make_in_bucket(bucket)
        kills += way.train_from_bucket(bucket, place.folder / "run-bucket")
        verified = finished("verify", bucket).strip().splitlines()[-1]
        broken, num_requests = place.faults.num_broken, place.faults.num_requests
        place.faults.times = 0
        finished(*way.generate(str(folder)))
        finished(*way.train(str(folder), place.folder / "run-folder"))
        runs = [place.folder / f"run-{name}" for name in ("bucket", "folder")]
        seals = [ShardSet.open(url).seal() for url in (bucket, str(folder))]
        roots = [seal and seal.root_sha256 for seal in seals]  # of all pixels and rows
        encoders = [(run / "encoder.safetensors").read_bytes() for run in runs]
        result = {
            "captions": num_captions,
            "views": num_captions * VIEWS,
            "steps": steps,
            "processes_killed": kills,
            "requests": num_requests,
            "requests_broken": broken,
            "verify": verified,
            "sets_are_equal": bool(roots[0]) and roots[0] == roots[1],
            "encoders_are_equal": encoders[0] == encoders[1],
        }
        if not no_scores:
            finished("pictograms", "--out", place.folder / "pictograms")
            result["top1"] = scores_of(runs[0], place.folder / "pictograms")
    result |= {"seconds": round(time.monotonic() - start), "machine": machine.describe()}
    click.echo(json.dumps(result, indent=2))
    if not (result["sets_are_equal"] and result["encoders_are_equal"]):
        raise SystemExit(1)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
