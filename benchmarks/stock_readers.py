"""Which readers that know nothing of the format read a set, each with packages of its own.

    python -m benchmarks.stock_readers --work DIR [--set FOLDER]

Makes an environment with uv for each reader, in DIR, because some exclude each other: older
`datasets` want an older pyarrow, and the training reader of open_clip fails with webdataset after
0.2.86 (`KeyError: 'fname'`). Then each reads the set from a process in which none of our code can
be imported. Without `--set` it is the small one of `tests/contract`. A line is printed for each,
and `benchmarks/results/stock_readers.json` written. A reader whose packages cannot be had is left
out and named.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/contract/golden_about"
RESULTS = ROOT / "benchmarks/results/stock_readers.json"
TIMEOUT_S = 1200

_DATASETS = """
import glob, datasets
files = lambda pattern: sorted(glob.glob(f"{FOLDER}/{pattern}"))
cache = {"split": "train", "cache_dir": f"{WORK}/cache"}
tars = files("data/*.tar")
views = datasets.load_dataset("webdataset", data_files=tars, split="train", streaming=True)
rows = datasets.load_dataset("parquet", data_files=files("manifests/*.parquet"), **cache)
plan = datasets.load_dataset("parquet", data_files=files("subjects/*.parquet"), **cache)
index = datasets.load_dataset("parquet", data_files=files("index/*.parquet"), **cache)
by_card = datasets.load_dataset(FOLDER, split="train", streaming=True)
keys = [row["key"] for row in rows if row["status"] == "ok"]
assert [view["__key__"] for view in views] == [view["__key__"] for view in by_card] == keys
print(f"{len(keys)} images, {len(rows)} rows, {len(plan)} subjects, {len(index)} groups")
"""

_OPEN_CLIP = """
import json
from types import SimpleNamespace
from open_clip_train.data import get_dataset_size, get_wds_dataset
sizes = json.load(open(f"{FOLDER}/data/sizes.json"))
names = sorted(sizes)
tars = f"{FOLDER}/data/{{{names[0][:-4]}..{names[-1][:-4]}}}.tar"
assert get_dataset_size(tars) == (sum(sizes.values()), len(sizes))
args = SimpleNamespace(val_data=tars, val_num_samples=None, batch_size=1, workers=0, world_size=1,
                       train_data=tars, train_num_samples=sum(sizes.values()), seed=0,
                       train_data_upsampling_factors=None, dataset_resampled=False)
def read(is_train):
    reader = get_wds_dataset(args, lambda picture: picture.size, is_train=is_train,
                             tokenizer=lambda text: [text])
    return sorted(text for _, batch in reader.dataloader for text in batch)
texts = read(is_train=True)
assert texts == read(is_train=False) and len(texts) == sum(sizes.values())
print(f"{len(texts)} pairs of image and text")
"""

_ENERGON = """
import shutil, subprocess, sys, os
from pathlib import Path
here = Path(WORK) / "copy"
shutil.rmtree(here, ignore_errors=True)
shutil.copytree(f"{FOLDER}/data", here)
suffix = os.path.splitext(next(Path(FOLDER).glob("examples/*")))[1][1:]
field_map = '{"image": "%s", "caption": "txt"}' % suffix
energon = str(Path(sys.executable).parent / "energon")
prepare = [energon, "prepare", "--non-interactive", "--split-ratio", "1,0,0", "--sample-type",
           "CaptioningSample", "--field-map", field_map, str(here)]
done = subprocess.run(prepare, capture_output=True, text=True)
assert done.returncode == 0, done.stdout + done.stderr
from megatron.energon import WorkerConfig, get_loader, get_train_dataset
worker = WorkerConfig(rank=0, world_size=1, num_workers=0)
data = get_train_dataset(here, worker_config=worker, batch_size=2, shuffle_buffer_size=None,
                         max_samples_per_sequence=None)
batch = next(iter(get_loader(data)))
assert len(batch.caption) == 2
print(f"a batch of {tuple(batch.image.shape)}")
"""

_CROISSANT = """
import mlcroissant
records = mlcroissant.Dataset(jsonld=f"{FOLDER}/croissant.json").records(record_set="views")
rows = list(records)
assert all(row["views/key"] and row["views/status"] in (b"ok", b"failed") for row in rows)
print(f"{len(rows)} rows of a valid description")
"""

_DUCKDB = """
import duckdb
rows = f"read_parquet('{FOLDER}/manifests/*.parquet')"
good, = duckdb.execute(f"SELECT count(*) FROM {rows} WHERE status = 'ok'").fetchone()
print(f"{good} good views")
"""

_WEBDATASET = """
import glob, webdataset
tars = sorted(glob.glob(f"{FOLDER}/data/*.tar"))
views = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
assert all(view["txt"] and view["json"]["key"] == view["__key__"] for view in views)
print(f"{len(views)} views")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A library, and what it has to do with a set in FOLDER."""

    packages: tuple[str, ...]
    code: str


READERS = {
    "datasets 5": Reader(packages=("datasets>=5.2", "pillow", "webdataset"), code=_DATASETS),
    "datasets 3": Reader(packages=("datasets==3.6.0", "pillow", "webdataset"), code=_DATASETS),
    "datasets 2": Reader(
        packages=("datasets==2.21.0", "pillow", "webdataset", "pyarrow<18", "numpy<2"),
        code=_DATASETS,
    ),
    "webdataset": Reader(packages=("webdataset>=1.0", "pillow", "numpy"), code=_WEBDATASET),
    "duckdb": Reader(packages=("duckdb",), code=_DUCKDB),
    "mlcroissant": Reader(packages=("mlcroissant[parquet]>=1.1",), code=_CROISSANT),
    "open_clip": Reader(
        packages=("open_clip_torch>=3.3", "webdataset==0.2.86", "pandas"), code=_OPEN_CLIP
    ),
    "energon": Reader(packages=("megatron-energon>=7.4", "pillow"), code=_ENERGON),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="Folder for the environments.")
    parser.add_argument("--set", type=Path, default=GOLDEN, help="A sealed set with examples.")
    parser.add_argument("--only", nargs="+", choices=READERS, default=[*READERS])
    options = parser.parse_args()
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        parser.error("there is no uv; pip install uv")
    outcomes = {}
    for name in options.only:
        outcomes[name] = read(uv, name, options.work.absolute(), options.set.absolute())
        print(f"{name}: {outcomes[name]['outcome']}", flush=True)
    if options.only == [*READERS] and options.set == GOLDEN:
        RESULTS.write_text(f"{json.dumps(outcomes, indent=2)}\n")
    failed = [name for name, one in outcomes.items() if one["is_read"] is False]
    sys.exit(f"not read by {', '.join(failed)}" if failed else 0)


def read(uv: str, name: str, work: Path, folder: Path) -> dict[str, object]:
    """Make the environment of one reader, and let it read a set."""
    reader, venv = READERS[name], work / name.replace(" ", "-")
    python = venv / "bin/python"
    venv.mkdir(parents=True, exist_ok=True)
    made = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(venv)]
    filled = [uv, "pip", "install", "--quiet", "--python", str(python), *reader.packages]
    for command in (made, filled):
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode:
            reason = " ".join(done.stderr.split())[-300:]
            return {"is_read": None, "outcome": f"left out: {reason}"}
    listed = subprocess.run(
        [uv, "pip", "freeze", "--python", str(python)], capture_output=True, text=True, check=True
    )
    versions = dict(line.split("==") for line in listed.stdout.split() if "==" in line)
    wanted = {re.split(r"[\[<>=]", package)[0].replace("_", "-") for package in reader.packages}
    code = f"FOLDER, WORK = {str(folder)!r}, {str(venv)!r}\n{reader.code}"
    done = subprocess.run(
        [str(python), "-P", "-W", "ignore", "-c", code],
        cwd=venv,
        env={"PATH": os.environ["PATH"], "HOME": str(venv), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:]
    return {
        "is_read": done.returncode == 0,
        "outcome": " ".join(last),
        "versions": {name: version for name, version in versions.items() if name in wanted},
    }


if __name__ == "__main__":
    main()
