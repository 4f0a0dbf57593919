"""`ray job submit`, as a KubeRay RayJob does it: the job joins the cluster that it runs on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.execution.ray_executor import LOOPBACK
from tests.conftest import ROOT
from tests.running import pixel_files, synth, write_captions
from tests.servers.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.servers]

RAY = Path(sys.executable).with_name("ray")
START_S = 120.0
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address at which a cluster of one node takes jobs."""
    port, gcs, agent = free_ports(3)
    command = [
        *(RAY, "start", "--head", "--block", "--port", gcs, "--num-cpus", 2),
        *("--node-ip-address", LOOPBACK, "--dashboard-host", "127.0.0.1"),
        *("--include-dashboard", "true", "--dashboard-port", port, "--disable-usage-stats"),
        # Other clusters of this machine have the usual one.
        *("--dashboard-agent-listen-port", agent),
    ]
    log = tmp_path_factory.mktemp("ray") / "head.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*map(str, command)], env=os.environ | ENVIRONMENT, stdout=output, stderr=output
        ) as head,
    ):
        yield f"http://127.0.0.1:{port}"
        head.terminate()  # which drains the node and ends its processes


def submitted(dashboard: str, *words: object) -> str:
    """Output of `ray job submit`, which follows the job to its end."""
    command = [RAY, "job", "submit", "--address", dashboard, "--", sys.executable, "-m", "synth"]
    end = time.monotonic() + START_S
    while True:
        done = subprocess.run(
            [*map(str, command), *map(str, words)],
            env=os.environ | ENVIRONMENT,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        output = done.stdout + done.stderr
        # A node that has just started takes no jobs yet.
        is_early = any(word in output for word in ("No available agent", "Failed to connect"))
        if not is_early or time.monotonic() > end:
            assert done.returncode == 0, output
            return output
        time.sleep(1)


def test_a_submitted_job_makes_the_set_that_any_other_makes(dashboard: str, tmp_path: Path) -> None:
    recipe = [
        *("--prompts", write_captions(tmp_path), "--renderer", "benchmarks.noise:Noise"),
        *("--views-per-subject", 4, "--subjects-per-shard", 1),
    ]
    url = tmp_path / "set"
    output = submitted(
        dashboard, "generate", "--out", url, *recipe, "--ray-address", "auto", "--workers", 1
    )
    assert "24 views in 6 shards" in output
    assert "succeeded" in output
    synth("generate", "--out", tmp_path / "other", *recipe, "--executor", "inline")
    assert pixel_files(url) == pixel_files(tmp_path / "other")
