"""`synth generate` beside the same job written with Ray Data: time, a kill, a row that kills.

    python -m benchmarks.ray_data [--programs 400] [--kill-after 0.5]

Both draw the same views of image programs with two workers, encode them as PNG and store them; Ray
Data reads programs from Parquet, draws them in `map_batches` with two actors, writes Parquet, and
keeps a job checkpoint. Then each is killed with SIGKILL in the middle and started again, and Ray
Data gets one row that ends its worker's process; what ours does with one is a test
(tests/conformance/test_executors.py). Every job is a process of its own.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import machine
from prompts.programs.accepted import program_text

RESULTS = Path(__file__).parent / "results" / "ray_data.json"

VIEWS, SIZE_PX, WORKERS = 8, 32, 2
POISON = "000000037"


def ours(folder: Path, programs: int) -> list[str]:
    """The command of the set; it resumes by being run again."""
    settings = [
        "prompts.source=programs",
        f"prompts.count={programs}",
        f"renderer.size_px={SIZE_PX}",
    ]
    command = [sys.executable, "-m", "synth", "generate", "--out", str(folder / "set")]
    command += ["--renderer", "image-programs", "--views-per-subject", str(VIEWS)]
    command += ["--subjects-per-shard", "20", "--workers", str(WORKERS)]
    return [*command, *(part for setting in settings for part in ("--set", setting))]


def ray_data(folder: Path, programs: int, poison: bool = False) -> list[str]:
    """The same as a script with Ray Data."""
    rows = [{"id": f"{number:09d}", "text": program_text(number)} for number in range(programs)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "programs.parquet", row_group_size=20)
    return [
        sys.executable,
        "-m",
        "benchmarks.ray_data",
        "--job",
        str(folder),
        *(["--poison"] * poison),
    ]


class Draw:
    """An actor of `map_batches`: draws and encodes the views of some programs."""

    def __init__(self, poison: bool) -> None:
        from pipeline.encoding import ImageConfig, ImageEncoder
        from pipeline.renderers.image_programs import ImagePrograms, ImageProgramsConfig

        self.renderer = ImagePrograms(ImageProgramsConfig(size_px=SIZE_PX))
        self.encoder = ImageEncoder(ImageConfig(format="png"), rendered_px=[(SIZE_PX, SIZE_PX)])
        self.poison = poison

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        from pipeline.testing.requests import requests_for

        if self.poison and POISON in batch["id"]:
            os._exit(1)
        requests = requests_for(
            list(batch["text"]),
            columns=self.renderer.columns(),
            variations=self.renderer.variations(),
            views_per_subject=VIEWS,
            kind="program",
        )
        images = [self.encoder.encode(view.pixels) for view in self.renderer.render(requests)]
        groups = [images[start : start + VIEWS] for start in range(0, len(images), VIEWS)]
        return {"id": list(batch["id"]), "images": groups}


def job(folder: Path, poison: bool) -> None:
    """The job of Ray Data; run again, it resumes from its checkpoint."""
    # It comes first, because it sets what Ray reads from the environment when it is imported.
    ours = import_module("pipeline.execution.ray_executor")
    import ray.data
    from ray.data.checkpoint import CheckpointConfig

    ray.init(
        address="local",
        num_cpus=WORKERS + 2,  # its reading and writing tasks ask for cores of their own
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=4 * ours.OBJECT_STORE_BYTES,
        _node_ip_address=ours.LOOPBACK,
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.checkpoint_config = CheckpointConfig(
        id_column="id",
        checkpoint_path=str(folder / "checkpoint"),
        delete_checkpoint_on_success=False,
    )
    source = folder / "programs.parquet"
    num_blocks = pq.read_metadata(source).num_rows // 20  # else it has one, and one busy actor
    ray.data.read_parquet(str(source), override_num_blocks=num_blocks).map_batches(
        Draw,
        fn_constructor_args=(poison,),
        batch_size=20,
        compute=ray.data.ActorPoolStrategy(size=WORKERS),
        num_cpus=1,
        max_restarts=2,
    ).write_parquet(str(folder / "out"))


def seconds(command: list[str], log: Path, limit_s: float = 900) -> tuple[float, int]:
    """Time and exit status of a process; its status is -9 if it was ended at the limit."""
    start = time.perf_counter()
    with log.open("a") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return time.perf_counter() - start, process.returncode


def kill_at(command: list[str], log: Path, made: Any, enough: int) -> int:
    """Kill the process when enough is made; what was made by then."""
    with (
        log.open("a") as file,
        subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True) as process,
    ):
        while process.poll() is None and made() < enough:
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return int(made())


def groups_of_ray_data(folder: Path) -> Counter[str]:
    """How often each program is in the output."""
    counts: Counter[str] = Counter()
    for path in folder.glob("out/**/*.parquet"):
        try:
            counts.update(pq.read_table(path, columns=["id"])["id"].to_pylist())
        except pa.ArrowInvalid:
            counts["unreadable"] += 1
    return counts


def compare(folder: Path, programs: int, share: float) -> dict[str, Any]:
    """All trials."""
    log = folder / "log.txt"
    results: dict[str, Any] = {"programs": programs, "views": programs * VIEWS}
    for name in ("ours-whole", "ours-killed", "data-whole", "data-killed", "data-poisoned"):
        (folder / name).mkdir()
    results["ours, s"], status = seconds(ours(folder / "ours-whole", programs), log)
    if status:
        raise click.ClickException(log.read_text()[-1500:])
    results["Ray Data, s"], status = seconds(ray_data(folder / "data-whole", programs), log)
    if status:
        raise click.ClickException(log.read_text()[-1500:])

    def shards() -> int:
        return len(list((folder / "ours-killed").glob("set/manifests/*.parquet")))

    command = ours(folder / "ours-killed", programs)
    before = kill_at(command, log, shards, int(share * programs / 20)) * 20
    again, status = seconds(command, log)
    same = _root(folder / "ours-killed") == _root(folder / "ours-whole")
    results["ours, killed"] = {
        "programs kept": before,
        "s of the second run": again,
        "status": status,
        "equal to the whole run": same,
    }

    def written() -> int:
        return sum(groups_of_ray_data(folder / "data-killed").values())

    command = ray_data(folder / "data-killed", programs)
    before = kill_at(command, log, written, int(share * programs))
    again, status = seconds(command, log)
    counts = groups_of_ray_data(folder / "data-killed")
    results["Ray Data, killed"] = {
        "programs kept": before,
        "s of the second run": again,
        "status": status,
        "missing": programs - len(counts.keys() - {"unreadable"}),
        "twice": sum(count > 1 for count in counts.values()),
        "unreadable files": counts["unreadable"],
    }
    took, status = seconds(ray_data(folder / "data-poisoned", programs, poison=True), log, 300)
    counts = groups_of_ray_data(folder / "data-poisoned")
    results["Ray Data, one row kills its worker"] = {
        "s": took,
        "status": status,
        "missing": programs - len(counts.keys() - {"unreadable"}),
    }
    return results


def _root(folder: Path) -> str:
    seal = json.loads((folder / "set" / "dataset.json").read_text())
    return str(seal["root_sha256"])


@click.command(help=__doc__)
@click.option("--programs", default=400, show_default=True)
@click.option("--kill-after", default=0.5, show_default=True, help="Share that is made by then.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--job", "folder", type=click.Path(path_type=Path), hidden=True)
@click.option("--poison", is_flag=True, hidden=True)
def main(programs: int, kill_after: float, out: Path, folder: Path | None, poison: bool) -> None:
    if folder is not None:
        job(folder, poison)
        return
    described = machine.describe()
    print(described)
    with tempfile.TemporaryDirectory() as scratch:
        result = compare(Path(scratch), programs, kill_after)
        print(json.dumps(result, indent=1))
        out.write_text(json.dumps({"machine": described, **result}, indent=1) + "\n")
        print((Path(scratch) / "log.txt").read_text()[-1500:], file=sys.stderr)


if __name__ == "__main__":
    main()
