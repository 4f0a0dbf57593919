"""What a shard costs beside its rendering, for sets of many shards: the real code on fake pictures.

    python -m benchmarks.scale --work FOLDER [--shards 1000,10000,100000]
        [--captions 100000,1000000,10000000] [--resumes 1000000]

A renderer of no cost draws one picture of 8 px for each shard; planner, worker, committer and seal
are those of every set, in one process. FOLDER should be in memory (/dev/shm), or the disk is
measured. For each size: seconds and CPU of a shard, peak memory, start-up of a run that finds
nothing left to do in half of the set, and `synth status` of that half. Then what a plan of so many
captions takes, in shards of 100, of which one is made. Then what `synth generate --out` alone takes
to find that all but one shard of so many are made; their manifests are links to one file, of which
only the names are read. Writes results/scale.json.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from benchmarks import machine

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


def measured(*words: object) -> dict[str, float]:
    """Run a command of `synth`: seconds, seconds of CPU, and peak memory in MB."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "synth", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"synth {words[0]}: {errors.decode()[-2000:]}")
    return {
        "s": time.monotonic() - start,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1000,
    }


def of_size(work: Path, num_shards: int) -> dict[str, Any]:
    """A set of so many shards, made in two halves."""
    folder = work / f"scale-{num_shards}"
    folder.mkdir()
    captions = folder / "captions.txt"
    captions.write_text("".join(f"thing number {index}\n" for index in range(num_shards)))
    url = folder / "set"
    generate = [
        *("generate", "--prompts", captions, "--out", url, "--views-per-subject", 1),
        *("--renderer", "benchmarks.noise:Noise", "--set", "renderer.size_px=8"),
        *("--subjects-per-shard", 1, "--executor", "inline"),
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
    return {
        "shards": num_shards,
        "shard_ms": 1000 * (half["s"] - nothing["s"]) / made,
        "shard_cpu_ms": 1000 * (half["cpu_s"] - nothing["cpu_s"]) / made,
        "peak_mb": max(half["peak_mb"], rest["peak_mb"]),
        "start_of_half_made_s": nothing["s"],
        "status_s": status["s"],
        "status_peak_mb": status["peak_mb"],
        "rest_and_seal_s": rest["s"],
        "start_of_sealed_s": sealed["s"],
    }


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
        *("--renderer", "benchmarks.noise:Noise", "--set", "renderer.size_px=8"),
        *("--executor", "inline", "--share", f"1/{max(1, num_captions // 100)}"),
    ]
    try:
        return {"captions": num_captions, "bytes": captions.stat().st_size, **measured(*generate)}
    finally:
        shutil.rmtree(folder)


def resume_of(work: Path, num_shards: int) -> dict[str, float]:
    """Seconds and memory of resuming a set of which one shard is left to others."""
    folder = work / f"resume-{num_shards}"
    folder.mkdir()
    captions, url = folder / "captions.txt", folder / "set"
    captions.write_text("".join(f"thing number {index}\n" for index in range(num_shards)))
    share = ("--executor", "inline", "--share", f"1/{num_shards}")
    generate = [
        *("generate", "--prompts", captions, "--out", url, "--views-per-subject", 1),
        *("--renderer", "benchmarks.noise:Noise", "--set", "renderer.size_px=8"),
        *("--subjects-per-shard", 1),
    ]
    try:
        measured(*generate, *share)
        (first,) = (url / "manifests").iterdir()
        for shard in range(1, num_shards - 1):
            os.link(first, first.with_name(f"{shard:0{len(first.stem)}}.parquet"))
        resumed = measured("generate", "--out", url, *share, "--trust", "benchmarks.noise:Noise")
    finally:
        shutil.rmtree(folder)
    return {"shards": num_shards, **resumed}


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--shards", default="1000,10000,100000", show_default=True)
@click.option("--captions", default="100000,1000000,10000000", show_default=True)
@click.option("--resumes", default="1000000", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(work: Path, shards: str, captions: str, resumes: str, out: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": machine.describe()}
    for name, counts, measure in (
        ("shards", shards, of_size),
        ("captions", captions, plan_of),
        ("resumes", resumes, resume_of),
    ):
        result[name] = []
        for count in filter(None, counts.split(",")):
            row = {key: round(value, 2) for key, value in measure(work, int(count)).items()}
            click.echo(json.dumps(row))
            result[name].append(row)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
