"""A Slurm of two nodes on this machine: real daemons on loopback, ended by their process ids."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.process_tree import descendants
from tests.servers.ports import free_ports

NEEDED = ("slurmctld", "slurmd", "sbatch", "srun", "munged")
NODES = ("n1", "n2")
START_S = 60.0
REQUEUE_S = 5.0
"""How long a requeued task waits."""

CONFIG = """
ClusterName=synth
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
JobRequeue=1
SlurmdTimeout=10
KillWait=5
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


def is_installed() -> bool:
    """Whether this machine has what is needed, and the rights."""
    return os.getuid() == 0 and all(shutil.which(name) for name in NEEDED)


@dataclass
class Slurm:
    """A running cluster."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: object) -> str:
        """Output of a command of Slurm."""
        done = subprocess.run(
            [*map(str, command)], env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *arguments: object, environment: dict[str, str] | None = None) -> str:
        """Submit a script, and give the number of its job."""
        done = subprocess.run(
            ["sbatch", "--parsable", *map(str, arguments)],
            env=self.environment | (environment or {}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().partition(";")[0]

    def states(self, job: str) -> list[str]:
        """States of the tasks of a job that Slurm still knows."""
        lines = self.run("squeue", "--noheader", "--format=%T", "--states=all", "--job", job)
        return lines.split()

    def restarts(self, job: str) -> int:
        """How often Slurm has started a job again."""
        found = re.search(r"Restarts=(\d+)", self.run("scontrol", "show", "job", job))
        assert found is not None
        return int(found[1])

    def wait(self, job: str, limit_s: float = 300.0) -> list[str]:
        """States of the tasks at the end, when none waits or runs any more."""
        end = time.monotonic() + limit_s
        active = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SIGNALING"}
        waiting_since = time.monotonic()
        while time.monotonic() < end:
            states = self.states(job)
            if not active & {*states}:
                return states
            if "PENDING" not in states:
                waiting_since = time.monotonic()
            # A requeued task waits two minutes by default; nobody has to in a test. But a node that
            # has ended a job refuses to start it again in the same seconds.
            elif time.monotonic() > waiting_since + REQUEUE_S:
                subprocess.run(
                    ["scontrol", "update", f"JobId={job}", "StartTime=now"],
                    env=self.environment,
                    capture_output=True,
                )
            time.sleep(0.5)
        raise AssertionError(f"job {job}: {self.states(job)}\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def start_node(self, name: str) -> None:
        self._start(name, ["slurmd", "-D", "-N", name])

    def until_idle(self) -> None:
        """Return when all nodes can take jobs."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            done = subprocess.run(
                ["sinfo", "--noheader", "--Node", "--format=%T"],
                env=self.environment,
                capture_output=True,
                text=True,
            )
            if done.stdout.split() == ["idle"] * len(NODES):
                return
            time.sleep(0.2)
        raise AssertionError(f"Slurm did not start:\n{self.logs()}")

    def kill_node(self, name: str) -> None:
        """End all processes of a node, which for Slurm is a node that died."""
        with self.daemons.pop(name) as daemon:
            daemon.kill()
            self.kill_jobs(name)

    def kill_jobs(self, *nodes: str) -> None:
        """End all processes of jobs on some nodes. They are no children of the daemons."""
        processes = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        # First those that would tell the others how a job's processes ended.
        for is_of in (self._is_step, self._is_job):
            for process in processes:
                if any(is_of(Path("/proc", str(process)), node) for node in nodes):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)

    def _is_step(self, process: Path, node: str) -> bool:
        """Whether a process starts and watches those of a job on a node."""
        try:
            if (process / "comm").read_text().strip() != "slurmstepd":
                return False
            files = [os.readlink(path) for path in (process / "fd").iterdir()]
        except OSError:  # it has just ended, or is not ours to look at
            return False
        return f"{self.folder}/slurmd.{node}.log" in files

    def _is_job(self, process: Path, node: str) -> bool:
        try:
            lines = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            return False
        ours = {f"SLURM_CONF={self.folder}/slurm.conf", f"SLURMD_NODENAME={node}"}
        return {line.encode() for line in ours} <= {*lines}

    def _start(self, name: str, command: Sequence[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """A cluster of the nodes n1 and n2, each with one core and one GPU by name."""
    with ExitStack() as stack:
        stack.enter_context(_munge(folder))
        controller, *ports = free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 "
            "RealMemory=4000 Gres=gpu:1"
            for name, port in zip(NODES, ports, strict=True)
        )
        (folder / "slurm.conf").write_text(
            CONFIG.format(
                host=host,
                controller=controller,
                folder=folder,
                nodes=nodes,
                names=",".join(NODES),
            )
        )
        (folder / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu File=/dev/null\n")
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (folder / name).mkdir()
        cluster = Slurm(folder)
        try:
            cluster._start("slurmctld", ["slurmctld", "-D"])
            for name in NODES:
                cluster.start_node(name)
            cluster.until_idle()
            yield cluster
        finally:
            cluster.kill_jobs(*NODES)
            for daemon in cluster.daemons.values():
                daemon.terminate()
            for daemon in cluster.daemons.values():
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()


@contextmanager
def _munge(folder: Path) -> Iterator[None]:
    """The daemon that signs Slurm's messages, unless one runs already."""
    if (
        Path("/run/munge/munge.socket.2").exists()
        and not subprocess.run(["munge", "-n"], capture_output=True).returncode
    ):
        yield
        return
    run = Path("/run/munge")
    run.mkdir(exist_ok=True)
    shutil.chown(run, "munge", "munge")
    command = ["su", "munge", "-s", "/bin/sh", "-c", "exec /usr/sbin/munged --foreground --force"]
    with (folder / "munged.out").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_S
        while subprocess.run(["munge", "-n"], capture_output=True).returncode:
            assert daemon.poll() is None, (folder / "munged.out").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        yield
    finally:
        for child in descendants(daemon.pid):
            os.kill(child, signal.SIGTERM)
        daemon.terminate()
        daemon.wait()
