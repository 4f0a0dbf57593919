"""A Ceph of one monitor, one store and one S3 gateway: real daemons on loopback, as root."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tests.servers.ports import free_ports

NEEDED = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
START_S = 120.0
KEY, SECRET = "nobody", "nothing"
"""Of the only user of the gateway, on loopback."""

CONFIG = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}]
mon initial members = a
public addr = 127.0.0.1
keyring = {folder}/keyring
log file = {folder}/$name.log
pid file = {folder}/$name.pid
admin socket = {folder}/$name.asok
run dir = {folder}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
osd objectstore = memstore
osd data = {folder}/osd
osd max object name len = 256
osd max object namespace len = 64
memstore device bytes = 4294967296
mon data = {folder}/mon
mon allow pool size one = true
mon pg warn min per osd = 0
mon osd full ratio = 0.99
ms bind msgr1 = false
rgw data = {folder}/rgw
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw thread pool size = 64
"""


def is_installed() -> bool:
    """Whether this machine has what is needed, and the rights."""
    return os.getuid() == 0 and all(shutil.which(name) for name in NEEDED)


@dataclass
class Ceph:
    """A running cluster."""

    folder: Path
    address: str
    """Of the S3 gateway."""
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *command: object) -> str:
        """Output of one of its commands."""
        line = [str(command[0]), "-c", str(self.folder / "ceph.conf"), *map(str, command[1:])]
        done = subprocess.run(line, capture_output=True, text=True, timeout=START_S)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str, *command: object) -> None:
        """Start a daemon in the foreground."""
        line = [str(command[0]), "-c", str(self.folder / "ceph.conf"), *map(str, command[1:])]
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(line, stdout=log, stderr=log)

    def start_gateway(self) -> None:
        """Start the S3 gateway and wait until it answers."""
        self.start("rgw", "radosgw", "-f", "-n", "client.rgw")
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.daemons["rgw"].poll() is None:
            try:
                urlopen(self.address, timeout=1).close()
            except HTTPError:
                return
            except (URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise AssertionError((self.folder / "rgw.out").read_text())

    def kill(self, name: str) -> None:
        """End a daemon without a warning."""
        process = self.daemons.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()


@contextmanager
def ceph(folder: Path) -> Iterator[Ceph]:
    """A new cluster without a bucket; its objects lie in memory."""
    mon, gateway = free_ports(2)
    fsid = str(uuid.uuid4())
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir(parents=True)
    config = CONFIG.format(fsid=fsid, mon=mon, gateway=gateway, folder=folder)
    (folder / "ceph.conf").write_text(config)
    cluster = Ceph(folder, f"http://127.0.0.1:{gateway}")
    keyring, monmap = folder / "keyring", folder / "monmap"
    keys = {
        "mon.": ("mon", "allow *"),
        "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
        "client.rgw": ("mon", "allow *", "osd", "allow *"),
        "osd.0": ("mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"),
    }
    for number, (name, capabilities) in enumerate(keys.items()):
        caps = [part for pair in _pairs(capabilities) for part in ("--cap", *pair)]
        create = ["--create-keyring"] if number == 0 else []
        cluster.run("ceph-authtool", keyring, *create, "--gen-key", "-n", name, *caps)
    cluster.run(
        *("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}]", monmap)
    )
    cluster.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
    try:
        cluster.start("mon", "ceph-mon", "-f", "-i", "a")
        cluster.run("ceph", "--connect-timeout", 60, "auth", "import", "-i", keyring)
        osd = str(uuid.uuid4())
        cluster.run("ceph", "osd", "new", osd, 0)
        cluster.run("ceph-osd", "-i", 0, "--mkfs", "--osd-uuid", osd)
        cluster.start("osd", "ceph-osd", "-f", "-i", 0)
        cluster.start_gateway()
        cluster.run(
            *("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid", "synth"),
            *("--display-name", "synth", "--access-key", KEY, "--secret-key", SECRET),
        )
        yield cluster
    finally:
        for process in cluster.daemons.values():
            process.kill()
        for process in cluster.daemons.values():
            process.wait()


def _pairs(values: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return zip(values[::2], values[1::2], strict=True)
