"""A Ray cluster on loopback, one for each test module that asks for it."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

_CODE = """
from pipeline.execution.ray_executor import LOOPBACK, OBJECT_STORE_BYTES
import ray, sys
ray.init(address="local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False,
         object_store_memory=OBJECT_STORE_BYTES, _node_ip_address=LOOPBACK)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster with room for three workers; tests join it as drivers. Its GPU is a
    resource that Ray counts, and no device."""
    with subprocess.Popen(
        [sys.executable, "-c", _CODE],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()
