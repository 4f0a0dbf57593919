"""OpenSSH's server on loopback, with keys of its own; ended by its process id."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.process_tree import descendants
from tests.servers.ports import free_ports
from tests.ssh_clients import ssh_clients_of

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
START_S = 30.0

CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/key.pub
PasswordAuthentication no
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""


def is_installed() -> bool:
    """Whether this machine has what is needed, and the rights."""
    return os.getuid() == 0 and SSHD is not None


@dataclass(frozen=True)
class Sshd:
    """A running server."""

    process: subprocess.Popen[bytes]

    def end_connections(self, kind: int = signal.SIGKILL) -> int:
        """Send a signal to all processes but the one that listens; how many there were."""
        children = descendants(self.process.pid)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, kind)
        return len(children)


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """A server, and every client of this process and of its children can log in."""
    assert SSHD is not None
    (port,) = free_ports(1)
    for name in ("host_key", "key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)
    log = folder / "sshd.log"
    host_key = (folder / "host_key.pub").read_text()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stdout=output, stderr=output
        ) as process,
        ssh_clients_of(folder, port=port, host_key=host_key, key=folder / "key"),
    ):
        server = Sshd(process)
        try:
            end = time.monotonic() + START_S
            while "Server listening" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.02)
            yield server
        finally:
            server.end_connections()
            process.terminate()
