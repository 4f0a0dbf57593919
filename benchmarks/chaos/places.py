"""Where runs are broken: a folder on a disk of its own, a bucket behind a proxy, two Ray nodes."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec

from benchmarks.chaos.disk import Disk, disk, is_possible
from tests.cluster import TwoNodes, two_nodes
from tests.fault_proxy import Faults, fault_proxy
from tests.object_store import s3_clients_of, s3_server
from tests.servers.ceph import Ceph, ceph, is_installed

ROOT = Path(__file__).parents[2]
NUM_CAPTIONS, VIEWS, VIEW_S = 24, 4, 0.02
SETTINGS = {"SYNTH_STORAGE_SILENCE_S": "3", "SYNTH_STORAGE_PATIENCE_S": "90", "PYTHONPATH": "."}
"""Of the environment of every driver."""


@dataclass(kw_only=True)
class Place:
    """Where schedules run: what is shared between them, and what they may break."""

    folder: Path
    captions: Path
    nodes: TwoNodes | None
    faults: Faults | None
    gateway: Ceph | None
    disk: Disk | None

    @property
    def sets(self) -> Path:
        """Where sets in a folder are made."""
        return self.disk.folder if self.disk else self.folder

    @property
    def scratch(self) -> dict[str, str]:
        """Of the environment of a driver: its temporary files are on the same disk."""
        return {"TMPDIR": str(self.disk.folder)} if self.disk else {}

    def command(
        self,
        url: str,
        executor: str,
        log: Path,
        *,
        workers: int = 1,
        trouble: Path | None = None,
        deadline_s: float | None = None,
    ) -> list[str]:
        words = [*("generate", "--prompts", self.captions, "--out", url)]
        words += ["--renderer", "benchmarks.chaos.troubled:Troubled", "--views-per-subject", VIEWS]
        words += ["--subjects-per-shard", 1, "--executor", executor]
        words += ["--set", f"renderer.view_s={VIEW_S}", "--set", f"renderer.log={log}"]
        words += ["--set", f"renderer.trouble={trouble}"] if trouble else []
        words += ["--set", f"execution.batch_deadline_s={deadline_s}"] if deadline_s else []
        if executor == "ray":
            assert self.nodes
            words += ["--ray-address", self.nodes.address, "--workers", workers]
        return [sys.executable, "-m", "synth", *map(str, words)]


@contextmanager
def opened(work: Path, *, storage: bool, ray: bool) -> Iterator[Place]:
    """A folder, and where they are wanted a bucket behind a proxy and two Ray nodes."""
    work.mkdir(parents=True, exist_ok=True)
    captions = work / "captions.txt"
    captions.write_text("".join(f"thing number {index}\n" for index in range(NUM_CAPTIONS)))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=work)))
        faults = gateway = nodes = None
        own_disk = stack.enter_context(disk(folder)) if is_possible() else None
        if storage:
            if is_installed():
                gateway = stack.enter_context(ceph(folder / "ceph"))
                server = gateway.address
            else:
                server = stack.enter_context(s3_server(folder))
            address, faults = stack.enter_context(fault_proxy(server))
            stack.enter_context(s3_clients_of(address))
            fsspec.filesystem("s3").mkdir("sets")
        if ray:
            nodes = stack.enter_context(two_nodes())
        yield Place(
            folder=folder,
            captions=captions,
            nodes=nodes,
            faults=faults,
            gateway=gateway,
            disk=own_disk,
        )
