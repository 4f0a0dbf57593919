"""What a newcomer waits for: everyday commands on the embedded model, from start to end.

    python -m benchmarks.first_minutes [--out results/first_minutes.json]

Each command is a process of its own, run once in the order of the table. Seconds are those of the
wall; CPU is that of the process and of its children. A row of Ctrl-C counts from the signal to the
end. Beside each stands what the first trial of this project by a newcomer had measured, on a busy
machine of two cores, where it had.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import machine
from prompts.lists import EMBEDDED_LIST

RESULTS = Path(__file__).parent / "results" / "first_minutes.json"
PYTHON = (sys.executable, "-c")
SYNTH = (sys.executable, "-m", "synth")
FAST = ("--steps", 5, "--batch-size", 48)
"""As the demo has it, in place of the 50 steps that the pipeline of the model has by default."""
GENERATE = ("generate", "--prompts", "captions.txt", "--executor", "inline", *FAST)
TRAIN = (
    *("train", "set", "--out", "run", "--recipe", "demo", "--model", "resnet10t", "--steps", 20),
    *("--set", "schedule.warmup_steps=2", "--batch-groups", 20, "--views-per-group", 4),
)


def once(*command: object, status: int = 0) -> Callable[[Path], dict[str, Any]]:
    """Seconds of a command that ends by itself."""

    def run(folder: Path) -> dict[str, Any]:
        start = time.perf_counter()
        process = _start(command, folder)
        return _end(process, start, statuses={status})

    return run


def interrupted(*command: object, when: Callable[[Path], bool]) -> Callable[[Path], dict[str, Any]]:
    """Seconds from Ctrl-C, sent once there is something to lose, to the end of a command."""

    def run(folder: Path) -> dict[str, Any]:
        process = _start(command, folder)
        while not when(folder):
            if process.poll() is not None:
                raise SystemExit(f"{command}: ended before it was interrupted")
            time.sleep(0.05)
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        return _end(process, start, statuses={130})

    return run


def _start(command: Sequence[object], folder: Path) -> "subprocess.Popen[str]":
    words = [*map(str, command)]
    if words[0] != sys.executable:
        words = [*SYNTH, *words]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(
            words,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _end(process: "subprocess.Popen[str]", start: float, *, statuses: set[int]) -> dict[str, Any]:
    _, code, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    status = os.waitstatus_to_exitcode(code)
    process.returncode = status
    if status not in statuses:
        raise SystemExit(f"{process.args}: status {status}, expected {statuses}")
    return {"wall_s": round(seconds, 2), "cpu_s": round(usage.ru_utime + usage.ru_stime, 2)}


def _has_shard(name: str) -> Callable[[Path], bool]:
    return lambda folder: any((folder / name / "manifests").glob("*.parquet"))


def _has_steps(name: str) -> Callable[[Path], bool]:
    return lambda folder: (folder / name / "metrics.jsonl").exists()


ROWS: Sequence[tuple[str, Callable[[Path], dict[str, Any]], str]] = (
    ("python -c 'import torch', for comparison", once(*PYTHON, "import torch"), ""),
    ("synth --help", once("--help"), "0.2 s"),
    ("a flag that is misspelt", once("generate", "--modle", "x", status=2), ""),
    (
        "an executor that does not exist",
        once(*GENERATE, "--out", "x", "--executor", "foo", status=2),
        "27 s",
    ),
    (
        "a key that does not exist",
        once(*GENERATE, "--out", "x", "--set", "renderer.nosuch=1", status=1),
        "20 to 42 s",
    ),
    (
        "a size that the model cannot draw",
        once(*GENERATE, "--out", "x", "--size", 33, status=1),
        "38 s",
    ),
    (
        "100 captions x 4 views, one process",
        once(*GENERATE, "--out", "set", "--views-per-subject", 4),
        "24 to 33 s",
    ),
    (
        "the same command again, nothing to do",
        once(*GENERATE, "--out", "set", "--views-per-subject", 4),
        "20 to 42 s",
    ),
    (
        "100 captions x 4 views, Ray",
        once(
            "generate", "--prompts", "captions.txt", "--out", "ray", "--views-per-subject", 4, *FAST
        ),
        "",
    ),
    (
        "Ctrl-C in generate, one process",
        interrupted(
            *GENERATE,
            "--out",
            "cut",
            "--views-per-subject",
            100,
            "--subjects-per-shard",
            10,
            when=_has_shard("cut"),
        ),
        "30.5 s",
    ),
    ("status", once("status", "set"), ""),
    ("verify", once("verify", "set"), ""),
    (
        "show, a group by a part of its text",
        once("show", "set", "pumpkin on red"),
        "no such command",
    ),
    (
        "preview, 3 captions at 4 scales",
        once(
            "preview", "--prompts", "captions.txt", "--guidance", "1,2,4,8", "--out", "p.png", *FAST
        ),
        "no such command",
    ),
    (
        "16 captions at 4 scales with equal noise",
        once(
            "generate",
            "--prompts",
            "few.txt",
            "--out",
            "sweep",
            "--executor",
            "inline",
            "--guidance",
            "1,2,4,8",
            "--views-per-subject",
            8,
            "--paired",
            *FAST,
        ),
        "",
    ),
    ("report of it", once("report", "sweep", "--out", "sweep.html"), "0.9 s"),
    (
        "negative prompt and size by flags, 16 captions",
        once(
            "generate",
            "--prompts",
            "few.txt",
            "--out",
            "flags",
            "--executor",
            "inline",
            "--views-per-subject",
            1,
            "--negative-prompt",
            "red",
            "--size",
            32,
            *FAST,
        ),
        "no such flags",
    ),
    (
        "train, 20 steps of a tower of timm",
        once(*TRAIN),
        "",
    ),
    (
        "a training that is finished, again",
        once(*TRAIN),
        "",
    ),
    (
        "an objective that does not exist",
        once("train", "set", "--out", "x", "--objective", "stablerap", status=1),
        "",
    ),
    (
        "Ctrl-C in train, with a checkpoint",
        interrupted(
            "train",
            "set",
            "--out",
            "long",
            "--recipe",
            "demo",
            "--steps",
            5000,
            "--views-per-group",
            4,
            when=_has_steps("long"),
        ),
        "the run was lost",
    ),
    (
        "timm opens the run",
        once(
            *PYTHON,
            "import timm; timm.create_model('local-dir:run', pretrained=True, num_classes=0)",
        ),
        "failed",
    ),
    (
        "evaluate on folders of 80 pictures",
        once("evaluate", "run", "--on", "imagefolder:pictures", "--with", "knn"),
        "22 s",
    ),
    ("publish to a folder", once("publish", "set", "published"), "6.9 s"),
    (
        "grow to 6 views of each caption",
        once("grow", "set", "--views-per-subject", 6, "--out", "grown", "--executor", "inline"),
        "no such command",
    ),
    (
        "split in two",
        once("split", "set", "--parts", "a=0.8,b=0.2", "--out", "parts"),
        "no such command",
    ),
    ("merge them", once("merge", "parts/a", "parts/b", "--out", "merged"), "no such command"),
    ("delete", once("delete", "merged", "--yes"), "no such command"),
)


def _prepare(folder: Path) -> None:
    """Captions, and a labelled set of plain pictures."""
    from PIL import Image

    captions = [json.loads(line)["caption"] for line in EMBEDDED_LIST.read_text().splitlines()]
    (folder / "captions.txt").write_text("\n".join(captions[:100]) + "\n")
    (folder / "few.txt").write_text("\n".join(captions[:16]) + "\n")
    for split in ("train", "test"):
        for number, name in enumerate(("red", "green", "blue", "grey")):
            place = folder / "pictures" / split / name
            place.mkdir(parents=True)
            for index in range(10):
                colour = [40 + 2 * index] * 3
                colour[number % 3] += 120 * (number < 3)
                Image.new("RGB", (32, 32), tuple(colour)).save(place / f"{index}.png")


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(out: Path) -> None:
    rows: list[dict[str, Any]] = []
    click.echo(machine.describe())
    folder = Path(tempfile.mkdtemp())
    try:
        _prepare(folder)
        for name, run, before in ROWS:
            row = {"task": name, **run(folder), "first_trial": before}
            rows.append(row)
            click.echo(f"| {name} | {row['wall_s']} s | {row['cpu_s']} s | {before} |")
    except SystemExit:
        click.echo((folder / "log.txt").read_text(), err=True)
        raise
    finally:
        shutil.rmtree(folder)
    out.write_text(json.dumps({"machine": machine.describe(), "tasks": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
