"""A real S3 gateway, that of Ceph: laws, the whole way, and random schedules of what breaks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import fsspec
import pytest

from manifests.storage import Store, open_store
from manifests.storage.objects import PART_BYTES, ObjectStore
from manifests.storage.testing import StoreLaws
from tests.conftest import ROOT
from tests.object_store import s3_clients_of
from tests.running import environment
from tests.servers.ceph import ceph, is_installed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.servers,
    pytest.mark.skipif(not is_installed(), reason="needs root and Debian's packages of Ceph"),
]
NUMBERS = count()


@pytest.fixture(scope="class")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with ceph(tmp_path_factory.mktemp("ceph")) as cluster, s3_clients_of(cluster.address):
        fsspec.filesystem("s3").mkdir("sets")
        yield


@pytest.mark.usefixtures("bucket")
class TestLaws(StoreLaws):
    large_bytes = PART_BYTES + 1

    def empty_store(self) -> Store:
        store = open_store(f"s3://sets/{next(NUMBERS)}/set")
        assert isinstance(store, ObjectStore)
        return store


def run_benchmark(name: str, folder: Path, *arguments: object) -> dict[str, object]:
    """What a command of `benchmarks/` writes, in its short form."""
    out = folder / "result.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--work", folder, "--out", out]
    done = subprocess.run(
        [*map(str, command), *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, object] = json.loads(out.read_text())
    return result


def test_a_set_is_made_on_ceph_through_kills_and_faults_verified_and_trained_from(
    tmp_path: Path,
) -> None:
    short = ("--captions", 24, "--steps", 12, "--no-scores")
    result = run_benchmark("whole_way", tmp_path, *short)
    assert result["sets_are_equal"]
    assert result["encoders_are_equal"]
    assert "all right: 144 views" in str(result["verify"])
    assert int(str(result["processes_killed"])) >= 3
    assert int(str(result["requests_broken"])) >= 1


def test_twenty_schedules_of_chaos_give_equal_sets(tmp_path: Path) -> None:
    result = run_benchmark("chaos", tmp_path, "--schedules", 20)
    assert (result["schedules"], result["right"]) == (20, 20)
