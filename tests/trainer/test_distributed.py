"""How ranks end: no thread of the process group is left to abort them."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manifests.foundation.caches import LOCK, locked
from manifests.storage import open_store
from tests.conftest import ROOT
from tests.picture_sets import make_picture_set, make_tars
from tests.running import environment
from trainer.data.index_cache import name_of_tars
from trainer.launching import STORE_VARIABLE

pytestmark = pytest.mark.slow

TIMEOUT_S = 10
"""Longer than two processes need to start together, and shorter than what one of them waits."""

# Registered before torch is imported, so the report is made after all that torch does at the exit.
RANK = """
import atexit, json, os, pathlib, sys

def report():
    tasks = pathlib.Path("/proc/self/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks]
    pathlib.Path(os.environ["REPORT"]).write_text(json.dumps(names))

atexit.register(report)
import synth
synth.main(sys.argv[1:], prog_name="synth")
"""


def two_ranks(folder: Path, source: str, *arguments: str) -> list[subprocess.Popen[str]]:
    """Two processes that train together, each with a cache of its own, as on two machines."""
    command = ["train", source, "--out", str(folder / "run"), *arguments]
    command += ["--model", "synth_small_conv", "--set", "model.input_px=16"]
    command += ["--set", "objective.head_hidden=8", "--set", "objective.head_out=4"]
    shared = environment() | {"WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", RANK, *command],
            cwd=ROOT,
            env=shared
            | {STORE_VARIABLE: str(folder / "store"), "REPORT": str(folder / f"{rank}.json")}
            | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            | {"XDG_CACHE_HOME": str(folder / f"cache-{rank}")},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads from /proc")
def test_no_thread_of_the_group_meets_the_end_of_the_interpreter(tmp_path: Path) -> None:
    """It could abort a rank that leaves with an error, and replace its exit status."""
    shards = make_picture_set(tmp_path / "set")
    row = shards.manifest(2).rows[4]
    tar = tmp_path / "set" / shards.layout.tar(2)
    data = bytearray(tar.read_bytes())
    data[row.offset + 30] ^= 1
    tar.write_bytes(data)
    arguments = ["--batch-groups", "8", "--views-per-group", "4", "--steps", "9"]
    ranks = two_ranks(tmp_path, str(tmp_path / "set"), *arguments)
    errors = [process.communicate(timeout=300)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [1, 1], errors
    assert all(row.key in error for error in errors), errors
    for rank in range(2):
        names = json.loads((tmp_path / f"{rank}.json").read_text())
        assert [name for name in names if "gloo" in name] == []


def test_a_machine_may_index_tars_for_longer_than_the_others_wait_in_a_step(tmp_path: Path) -> None:
    """The other machine has its index already, and waits for far longer than the timeout."""
    url = make_tars(tmp_path / "tars")
    store = open_store(str(tmp_path / "tars"))
    index = f"synth/index/{name_of_tars(store, store.list(), 'images of tars')}"
    slow, fast = tmp_path / "cache-1" / index, tmp_path / "cache-0" / index
    slow.mkdir(parents=True)
    with locked(slow / LOCK):
        arguments = ["--objective", "simclr", "--batch-groups", "4", "--steps", "1"]
        ranks = two_ranks(tmp_path, url, *arguments, "--set", f"run.timeout_s={TIMEOUT_S}")
        deadline = time.monotonic() + 300
        while not (fast / "arrays.json").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(TIMEOUT_S + 4)
    errors = [process.communicate(timeout=300)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors


def test_ranks_that_do_not_meet_are_one_line(tmp_path: Path) -> None:
    shards = make_picture_set(tmp_path / "set")
    arguments = ["--batch-groups", "8", "--views-per-group", "4", "--steps", "9"]
    arguments += ["--set", "run.timeout_s=3"]
    first, second = two_ranks(tmp_path, shards.store.url, *arguments)
    second.kill()
    second.communicate()
    _, error = first.communicate(timeout=120)
    assert first.returncode == 1
    assert "Traceback" not in error
    assert "rank 0: the 2 ranks did not meet" in error
    assert "run.timeout_s" in error
