"""`ray job submit`, as a KubeRay RayJob does it: the job joins the cluster that it runs on.

The cluster tells Prometheus of it meanwhile.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pipeline.execution.ray_executor import LOOPBACK
from tests.conftest import ROOT
from tests.running import pixel_files, synth, write_captions
from tests.servers.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.servers]

RAY = Path(sys.executable).with_name("ray")
START_S = 120.0
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "1",
    "RAY_metrics_report_interval_ms": "500",
    "PYTHONPATH": str(ROOT),
}


@dataclass(frozen=True)
class Head:
    """Addresses of a cluster of one node: where it takes jobs, and where its metrics are."""

    dashboard: str
    metrics: str


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    port, gcs, agent, metrics = free_ports(4)
    command = [
        *(RAY, "start", "--head", "--block", "--port", gcs, "--num-cpus", 2),
        *("--node-ip-address", LOOPBACK, "--dashboard-host", "127.0.0.1"),
        *("--include-dashboard", "true", "--dashboard-port", port, "--disable-usage-stats"),
        # Other clusters of this machine have the usual one.
        *("--dashboard-agent-listen-port", agent, "--metrics-export-port", metrics),
    ]
    log = tmp_path_factory.mktemp("ray") / "head.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*map(str, command)], env=os.environ | ENVIRONMENT, stdout=output, stderr=output
        ) as process,
    ):
        yield Head(f"http://127.0.0.1:{port}", f"http://{LOOPBACK}:{metrics}/metrics")
        process.terminate()  # which drains the node and ends its processes


def submitted(head: Head, *words: object) -> str:
    """Output of `ray job submit`, which follows the job to its end."""
    command = [RAY, "job", "submit", "--address", head.dashboard, "--"]
    command += [sys.executable, "-m", "synth"]
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


def test_a_submitted_job_makes_the_set_that_any_other_makes(head: Head, tmp_path: Path) -> None:
    recipe = [
        *("--prompts", write_captions(tmp_path), "--renderer", "benchmarks.noise:Noise"),
        *("--views-per-subject", 4, "--subjects-per-shard", 1),
    ]
    url = tmp_path / "set"
    output = submitted(
        head, "generate", "--out", url, *recipe, "--ray-address", "auto", "--workers", 1
    )
    assert "24 views in 6 shards" in output
    assert "succeeded" in output
    synth("generate", "--out", tmp_path / "other", *recipe, "--executor", "inline")
    assert pixel_files(url) == pixel_files(tmp_path / "other")


def test_the_cluster_exposes_what_the_dashboard_asks_for(head: Head, tmp_path: Path) -> None:
    """While the job runs, as Prometheus reads it."""
    url = tmp_path / "set"
    slow = ("--renderer", "benchmarks.noise:Noise", "--set", "renderer.view_s=0.25")
    recipe = ("--prompts", write_captions(tmp_path), *slow, "--views-per-subject", 12)
    job = ("generate", "--out", url, *recipe, "--subjects-per-shard", 1, "--workers", 1)
    dashboard = json.loads((ROOT / "docker" / "grafana.json").read_text())
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    asked = {name for text in expressions for name in re.findall(r"ray_synth_\w+", text)}
    # Nothing fails in this job, and a counter that was never raised is not exposed.
    asked -= {"ray_synth_failed_attempts_total", "ray_synth_storage_repeats_total"}
    assert len(asked) >= 4
    exposed: dict[str, set[str]] = {}
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(submitted, head, *job, "--ray-address", "auto")
        while not done.done() and not asked <= exposed.keys():
            time.sleep(0.5)
            for family in families(head.metrics):
                for sample in family.samples:
                    if sample.labels.get("set") == str(url):
                        exposed.setdefault(sample.name, set()).update(sample.labels)
        done.result()
    assert asked <= exposed.keys()
    for text in expressions:
        for labels, name in re.findall(r"\(([a-z, ]+)\) \(rate\((ray_synth_\w+)", text):
            if name in asked:
                assert {*labels.split(", ")} <= exposed[name]


def families(address: str) -> list[Metric]:
    """What the endpoint exposes now; nothing before it listens."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return [*text_string_to_metric_families(answer.read().decode())]
    except OSError:
        return []
