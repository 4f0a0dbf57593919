"""What a shard costs beside its rendering, for sets of many shards: the real code on fake pictures.

    python -m benchmarks.scale --work FOLDER [--shards 1000,10000,100000]
        [--captions 100000,1000000,10000000] [--resumes 1000000] [--seals 250,1000]
        [--requests 100000] [--driver 20000,60000]

A renderer of no cost draws one picture of 8 px for each shard; planner, worker, committer and seal
are those of every set, in one process. FOLDER should be in memory (/dev/shm), or the disk is
measured. An empty list leaves a part out.

- shards: seconds, CPU and peak memory of making one, start-up of a run that finds half of the set
  made, `synth status` of that half, and the seal.
- captions: what a plan of so many takes, in shards of 100, of which one is made.
- resumes: what `synth generate --out` alone takes to find that all but one shard of so many are
  made. Their manifests are links to one file, of which only the names are read.
- seals: sealing so many shards of 1,000 views, which are links to the files of one.
- requests: those of `synth status` and of the same resume in a bucket, whose server makes objects
  when they are asked for; and how many a shard takes, on a server that keeps them.
- driver: CPU and memory of Ray's driver with 1,000 workers that take 4 s for a shard and do nothing
  meanwhile, for so many shards.

What a billion views would take follows from these rates (`benchmarks.projection`), where all of
them were measured. Writes results/scale.json.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks import machine
from benchmarks.projection import SUBJECTS_PER_SHARD, VIEWS_PER_SUBJECT, Rates, projection
from manifests.layout import RECIPE, SEAL
from manifests.shard_set import ShardSet
from tests.fault_proxy import faulty_bucket
from tests.virtual_bucket import LARGE_SET, bucket_of_many, virtual_bucket

ROOT = Path(__file__).parents[1]
WORDS = (
    "red",
    "blue",
    "large",
    "small",
    "fox",
    "door",
    "pear",
    "house",
    "with",
    "beside",
    "a",
    "two",
)
RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
NOISE = (
    *("--renderer", "benchmarks.noise:Noise", "--set", "renderer.size_px=8"),
    *("--executor", "inline"),
)
AGAIN = ("--executor", "inline", "--trust", "benchmarks.noise:Noise")
WORKERS, SHARD_S = 1000, 4.0
"""Two shards are in flight in a worker, so 500 shards end in each second. When a thousand do, what
Ray notes of each call piles up in the driver."""
PROJECTED_VIEWS = 10**9


MEASURED = """
import json, os, subprocess, sys, time
start = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
cpu_s = usage.ru_utime + usage.ru_stime
row = {"s": time.monotonic() - start, "cpu_s": cpu_s, "peak_mb": usage.ru_maxrss / 1000}
print(json.dumps(row))
sys.exit(status != 0)
"""
"""The system counts the memory of whoever starts a process as its own, so a small one starts it."""


def measured(*words: object) -> dict[str, float]:
    """Run a command of `synth`: seconds, seconds of CPU, and peak memory in MB."""
    command = [sys.executable, "-m", "synth", *map(str, words)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"synth {words[0]}: {done.stderr[-2000:]}")
    row: dict[str, float] = json.loads(done.stdout)
    return row


def of_size(work: Path, num_shards: int) -> dict[str, Any]:
    """A set of so many shards, made in two halves."""
    folder = work / f"scale-{num_shards}"
    folder.mkdir()
    captions, url = captions_of(folder, num_shards), folder / "set"
    generate = [
        *("generate", "--prompts", captions, "--out", url, "--views-per-subject", 1),
        *("--subjects-per-shard", 1, *NOISE),
    ]
    try:
        half = measured(*generate, "--share", "1/2")
        nothing = measured(*generate, "--share", "1/2")
        status = measured("status", url)
        rest = measured(*generate)
        sealed = measured(*generate)
    finally:
        shutil.rmtree(folder)
    # Without start-up, which the second run shows.
    made = num_shards // 2
    making = {name: (half[name] - nothing[name]) / made for name in ("s", "cpu_s")}
    seal_s = rest["cpu_s"] - nothing["cpu_s"] - making["cpu_s"] * (num_shards - made)
    return {
        "shards": num_shards,
        "shard_ms": 1000 * making["s"],
        "shard_cpu_ms": 1000 * making["cpu_s"],
        "peak_mb": half["peak_mb"],
        "start_of_half_made_s": nothing["s"],
        "start_peak_mb": nothing["peak_mb"],
        "status_s": status["s"],
        "status_peak_mb": status["peak_mb"],
        "seal_cpu_ms": 1000 * seal_s / num_shards,
        "seal_peak_mb": rest["peak_mb"],
        "rest_and_seal_s": rest["s"],
        "start_of_sealed_s": sealed["s"],
        "start_of_sealed_peak_mb": sealed["peak_mb"],
    }


def captions_of(folder: Path, count: int) -> Path:
    """A file of so many captions."""
    path = folder / "captions.txt"
    path.write_text("".join(f"thing number {index}\n" for index in range(count)))
    return path


def plan_of(work: Path, num_captions: int) -> dict[str, float]:
    """Seconds and memory of reading, merging and planning captions of eight words."""
    folder = work / f"captions-{num_captions}"
    folder.mkdir()
    captions, words = folder / "captions.txt", random.Random(0)
    with captions.open("w") as file:
        for index in range(num_captions):
            file.write(f"{' '.join(words.choices(WORDS, k=7))} {index}\n")
    generate = [
        *("generate", "--prompts", captions, "--out", folder / "set", "--views-per-subject", 1),
        *(*NOISE, "--share", f"1/{max(1, num_captions // 100)}"),
    ]
    try:
        return {"captions": num_captions, "bytes": captions.stat().st_size, **measured(*generate)}
    finally:
        shutil.rmtree(folder)


def one_shard(folder: Path, *, subjects: int, views: int) -> ShardSet:
    """A set of one shard of so many subjects and views of each, which is open again."""
    captions, url = captions_of(folder, subjects), folder / "set"
    measured(
        *("generate", "--prompts", captions, "--out", url, "--views-per-subject", views),
        *("--subjects-per-shard", subjects, *NOISE),
    )
    (url / SEAL).unlink()
    return ShardSet.open(str(url))


def linked(
    folder: Path, num_made: int, *, num_shards: int, subjects: int, views: int, with_tars: bool
) -> Path:
    """An open set that says it has so many shards, of which some are links to one that was made.

    Its plan is that of one shard: what is not left to make is not read.
    """
    shards, url = one_shard(folder, subjects=subjects, views=views), folder / "set"
    identity = replace(shards.recipe.identity, num_subjects=num_shards * subjects)
    recipe = replace(shards.recipe, identity=identity)
    manifest = replace(shards.manifest(0), recipe_sha256=recipe.sha256)
    (url / RECIPE).write_bytes(recipe.to_bytes())
    (url / shards.layout.manifest(0)).write_bytes(manifest.to_bytes())
    layout = identity.layout
    for name in (layout.manifest, *((layout.tar, layout.stats) if with_tars else ())):
        for shard in range(1, num_made):
            os.link(url / name(0), url / name(shard))
    return url


def resume_of(work: Path, num_shards: int) -> dict[str, float]:
    """Seconds and memory of resuming a set of which one shard is left to others."""
    folder = work / f"resume-{num_shards}"
    folder.mkdir()
    try:
        url = linked(
            folder, num_shards - 1, num_shards=num_shards, subjects=1, views=1, with_tars=False
        )
        share = ("--share", f"1/{num_shards}")
        return {"shards": num_shards, **measured("generate", "--out", url, *AGAIN, *share)}
    finally:
        shutil.rmtree(folder)


def seal_of(work: Path, num_shards: int) -> dict[str, float]:
    """CPU and memory of sealing shards of 1,000 views."""
    folder = work / f"seal-{num_shards}"
    folder.mkdir()
    size = {"subjects": SUBJECTS_PER_SHARD, "views": VIEWS_PER_SUBJECT, "with_tars": True}
    try:
        url = linked(folder, num_shards, num_shards=num_shards, **size)
        sealing = measured("generate", "--out", url, *AGAIN)
        again = measured("generate", "--out", url, *AGAIN)
    finally:
        shutil.rmtree(folder)
    return {
        "shards": num_shards,
        "views_per_shard": SUBJECTS_PER_SHARD * VIEWS_PER_SUBJECT,
        "cpu_ms": 1000 * (sealing["cpu_s"] - again["cpu_s"]) / num_shards,
        "peak_mb": sealing["peak_mb"],
    }


def requests_of(work: Path, num_shards: int) -> dict[str, float]:
    """Requests, seconds and memory of status and resume in a bucket."""
    folder = work / f"requests-{num_shards}"
    folder.mkdir()
    result: dict[str, float] = {"shards": num_shards}
    url, share = f"s3://sets/{LARGE_SET}", ("--share", f"1/{num_shards}")
    try:
        first = one_shard(folder, subjects=1, views=1)
        many = bucket_of_many(first, num_shards=num_shards, num_given_up=1)
        with virtual_bucket(many) as bucket:
            for name, words in (
                ("status", ("status", url)),
                ("resume", ("generate", "--out", url, *AGAIN, *share)),
            ):
                bucket.requests.clear()
                row = measured(*words)
                result[f"{name}_requests"] = len(bucket.requests)
                result |= {f"{name}_{key}": value for key, value in row.items()}
        return result | {"shard_requests": shard_requests(folder)}
    finally:
        shutil.rmtree(folder)


def shard_requests(folder: Path) -> float:
    """What each shard more adds to the requests of a set that is made and sealed in a bucket."""
    few, many = 10, 30
    counts = []
    with faulty_bucket(folder) as faults:
        for num_shards in (few, many):
            before, captions = faults.num_requests, captions_of(folder, num_shards)
            measured(
                *("generate", "--prompts", captions, "--out", f"s3://sets/{num_shards}/set"),
                *("--views-per-subject", 1, "--subjects-per-shard", 1, *NOISE),
            )
            counts.append(faults.num_requests - before)
    return (counts[1] - counts[0]) / (many - few)


def driver_of(work: Path, num_shards: int) -> dict[str, float]:
    """CPU and memory of the driver, in a process of its own."""
    code = "import json; from benchmarks import overhead; "
    code += f"print(json.dumps(overhead.driver({WORKERS}, {num_shards}, {SHARD_S})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def projected(result: dict[str, Any]) -> dict[str, float]:
    """For a billion views, by the largest of each."""
    last = {name: rows[-1] for name, rows in result.items() if isinstance(rows, list) and rows}
    rates = Rates(
        plan_s=last["captions"]["s"] / last["captions"]["captions"],
        driver_cpu_s=last["driver"]["cpu_ms_per_shard"] / 1000,
        seal_cpu_s=last["seals"]["cpu_ms"] / 1000,
        resume_s=last["resumes"]["s"] / last["resumes"]["shards"],
        requests=last["requests"]["shard_requests"],
    )
    return projection(PROJECTED_VIEWS, rates)


MEASURES: Mapping[str, tuple[Callable[[Path, int], dict[str, Any]], str]] = {
    "shards": (of_size, "1000,10000,100000"),
    "captions": (plan_of, "100000,1000000,10000000"),
    "resumes": (resume_of, "1000000"),
    "seals": (seal_of, "250,1000"),
    "requests": (requests_of, "100000"),
    "driver": (driver_of, "20000,60000"),
}
"""Each part with its sizes."""


def with_sizes(command: Callable[..., None]) -> Callable[..., None]:
    """An option for the sizes of each part."""
    for name, (_, sizes) in reversed(MEASURES.items()):
        command = click.option(f"--{name}", default=sizes, show_default=True)(command)
    return command


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@with_sizes
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(work: Path, out: Path, **sizes: str) -> None:
    work.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": machine.describe()}
    for name, (measure, _) in MEASURES.items():
        result[name] = []
        for count in filter(None, sizes[name].split(",")):
            row = {key: round(value, 2) for key, value in measure(work, int(count)).items()}
            click.echo(json.dumps(row))
            result[name].append(row)
    if all(result[name] for name in MEASURES if name != "shards"):
        result["projection"] = projected(result)
        click.echo(json.dumps(result["projection"]))
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
