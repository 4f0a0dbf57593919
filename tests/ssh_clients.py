"""Clients of SSH that talk to a server on loopback by files as a user has, and the laws there."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from manifests.storage import Store, open_store
from manifests.storage.sftp import SftpStore
from manifests.storage.testing import StoreLaws

HOST = "store"
"""What the configuration of the clients calls the server."""

CONFIG = """
Host {host}
HostName 127.0.0.1
Port {port}
User {user}
IdentityFile {key}
"""

_NUMBERS = count()


class SftpLaws(StoreLaws):
    """The laws of stores in folders that the server `HOST` shares with this machine."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def empty_store(self) -> Store:
        store = open_store(f"sftp://{HOST}{self.folder}/{next(_NUMBERS)}/set")
        assert isinstance(store, SftpStore)
        return store


def known_hosts(folder: Path) -> Path:
    """The file in which the clients look for the key of a server."""
    return folder / ".ssh" / "known_hosts"


@contextmanager
def ssh_clients_of(folder: Path, *, port: int, host_key: str, key: Path) -> Iterator[None]:
    """Every client of this process and of its children calls the server `HOST`.

    Args:
        folder: Their home.
        host_key: The public key of the server.
        key: File of the private key with which they log in.
    """
    (folder / ".ssh").mkdir()
    config = CONFIG.format(host=HOST, port=port, user=getpass.getuser(), key=key)
    (folder / ".ssh" / "config").write_text(config)
    known_hosts(folder).write_text(f"[127.0.0.1]:{port} {host_key}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        yield
