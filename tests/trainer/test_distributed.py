"""How ranks end: no thread of the process group is left to abort them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.picture_sets import make_picture_set
from tests.running import environment
from trainer.launching import STORE_VARIABLE

pytestmark = pytest.mark.slow

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


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads from /proc")
def test_no_thread_of_the_group_meets_the_end_of_the_interpreter(tmp_path: Path) -> None:
    """It could abort a rank that leaves with an error, and replace its exit status."""
    shards = make_picture_set(tmp_path / "set")
    row = shards.manifest(2).rows[4]
    tar = tmp_path / "set" / shards.layout.tar(2)
    data = bytearray(tar.read_bytes())
    data[row.offset + 30] ^= 1
    tar.write_bytes(data)
    arguments = ["train", str(tmp_path / "set"), "--out", str(tmp_path / "run"), "--steps", "9"]
    arguments += ["--model", "synth_small_conv", "--set", "model.input_px=16"]
    arguments += ["--batch-groups", "8", "--views-per-group", "4"]
    arguments += ["--set", "objective.head_hidden=8", "--set", "objective.head_out=4"]
    shared = environment() | {"WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, *arguments],
            cwd=ROOT,
            env=shared
            | {STORE_VARIABLE: str(tmp_path / "store"), "REPORT": str(tmp_path / f"{rank}.json")}
            | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [1, 1], errors
    assert all(row.key in error for error in errors), errors
    for rank in range(2):
        names = json.loads((tmp_path / f"{rank}.json").read_text())
        assert [name for name in names if "gloo" in name] == []
