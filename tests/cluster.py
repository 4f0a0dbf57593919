"""Ray clusters on loopback, one for each test module that asks for it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.conftest import ROOT

_CODE = """
from pipeline.execution.ray_executor import LOOPBACK, OBJECT_STORE_BYTES
import ray, sys
ray.init(address="local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False,
         object_store_memory=OBJECT_STORE_BYTES, _node_ip_address=LOOPBACK)
print("ready", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def _running(code: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs a cluster until its input ends, and the address that it prints."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        address = ""
        while not address and (line := process.stdout.readline()):
            if line.startswith("ready "):  # and not what Ray says
                address = line.split()[1]
        yield process, address
        process.stdin.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster with room for three workers; tests join it as drivers. Its GPU is a
    resource that Ray counts, and no device."""
    with _running(_CODE) as (_, address):
        yield address


_TWO_NODES = """
from pipeline.execution.ray_executor import LOOPBACK, OBJECT_STORE_BYTES
from ray.cluster_utils import Cluster
import sys
node = {"num_cpus": 2, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node | {"node_ip_address": LOOPBACK})
# With an address of its own, or a driver could take it for its own node and die with it.
node["node_ip_address"] = "127.0.0.3"
second = cluster.add_node(**node)
print("ready", cluster.address, flush=True)
for line in sys.stdin:
    if line == "kill\\n":
        cluster.remove_node(second, allow_graceful=False)
    else:
        second = cluster.add_node(**node)
    print("done", flush=True)
cluster.shutdown()
"""


@dataclass
class TwoNodes:
    """A running cluster of two nodes with two cores each."""

    process: subprocess.Popen[str]
    address: str

    def _order(self, word: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        while self.process.stdout.readline() not in ("done\n", ""):
            pass  # what Ray says

    def kill_second(self) -> None:
        """End the second node and all its workers without a warning."""
        self._order("kill")

    def add_second(self) -> None:
        """Let a new second node join."""
        self._order("add")


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """A cluster on loopback whose second node can be killed, and can join late."""
    with _running(_TWO_NODES) as (process, address):
        yield TwoNodes(process, address)
