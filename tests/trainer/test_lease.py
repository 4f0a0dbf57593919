"""Of two trainings in one run in a store, one goes on."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from manifests.storage import open_store
from tests.object_store import s3_clients_of, s3_server
from tests.running import environment
from tests.sets import refused
from trainer import lease
from trainer.errors import CheckpointError
from trainer.lease import Lease


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "SILENCE_S", 0.8)
    monkeypatch.setattr(lease, "PATIENCE_S", 0.3)


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield f"file://{tmp_path}/run"
        return
    pytest.importorskip("moto")
    with s3_server(tmp_path) as address, s3_clients_of(address):
        fsspec.filesystem("s3").mkdir("runs")
        yield "s3://runs/run"


def test_a_run_in_which_another_training_lives_is_refused(url: str) -> None:
    store = open_store(url)
    first = Lease(store)
    first.acquire()
    with refused(CheckpointError, url, "is training in it; wait for it or stop"):
        Lease(store).acquire()
    first.require()
    first.release()
    second = Lease(store)
    second.acquire()  # at once, as the first one has said that it ended
    second.release()
    assert list(store.list("lock")) == ["lock/000000002.json"]


def test_a_holder_that_was_killed_on_this_machine_is_not_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SILENCE_S", 3600.0)
    code = "import sys; from manifests.storage import open_store; from trainer.lease import Lease\n"
    code += "Lease(open_store(sys.argv[1])).acquire(); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, url],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        other.kill()
    taken = Lease(open_store(url))
    taken.acquire()
    taken.release()


def test_a_silent_holder_of_another_machine_is_taken_over_and_ends(url: str) -> None:
    store = open_store(url)
    silent = {"host": "gone", "pid": 7, "process": ["another boot", "", "7", "1"]}
    store.create("lock/000000004.json", json.dumps(silent).encode())
    taken = Lease(store)
    taken.acquire()
    assert list(store.list("lock")) == ["lock/000000005.json"]
    # Taken over in turn, as if this process had been frozen.
    store.create("lock/000000006.json", json.dumps(silent).encode())
    end = time.monotonic() + 20
    with refused(CheckpointError, "was taken over by process 7 of gone"):
        while time.monotonic() < end:
            taken.require()
            time.sleep(0.02)
    taken.release()
    assert json.loads(store.read("lock/000000006.json")) == silent


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_lock_is_taken_over(url: str, content: bytes) -> None:
    store = open_store(url)
    store.create("lock/000000001.json", content)
    taken = Lease(store)
    taken.acquire()
    taken.release()
    assert list(store.list("lock")) == ["lock/000000002.json"]
