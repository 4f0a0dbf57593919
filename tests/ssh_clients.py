"""What makes clients of SSH talk to a server on loopback, as a user's own files do."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HOST = "store"
"""What the configuration of the clients calls the server."""

CONFIG = """
Host {host}
HostName 127.0.0.1
Port {port}
User {user}
IdentityFile {key}
"""


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
