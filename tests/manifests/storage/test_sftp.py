"""SFTP, with a server in this process. `tests/servers/test_sshd.py` has that of OpenSSH."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from fsspec.asyn import get_loop, sync

from manifests.storage import Store, calls, open_store
from manifests.storage.errors import StoreError
from tests.sets import refused
from tests.ssh_clients import HOST, SftpLaws, known_hosts, ssh_clients_of


class Files(asyncssh.SFTPServer):
    """The files of this machine, with one fault of the server."""

    fault = ""
    connections: list[Any] = []  # noqa: RUF012 (of all that there are)

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self.connections.append(channel.get_connection())

    async def stat(self, path: bytes) -> Any:
        if Files.fault == "silent":
            Files.fault = ""
            await get_loop().create_future()
        return super().stat(path)

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        if Files.fault == "no-links":
            raise asyncssh.SFTPOpUnsupported("link not supported")
        if Files.fault == "swept":
            Files.fault = ""
            os.unlink(oldpath)
        super().link(oldpath, newpath)

    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        if Files.fault == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(file_obj, offset, data)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a user who can log in."""
    folder = tmp_path_factory.mktemp("home")
    host_key, key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key.write_private_key(folder / "key")
    key.write_public_key(folder / "key.pub")

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            *("127.0.0.1", 0),
            server_host_keys=[host_key],
            authorized_client_keys=str(folder / "key.pub"),
            sftp_factory=Files,
        )

    server = sync(get_loop(), listen)
    public = host_key.export_public_key().decode().strip()
    with ssh_clients_of(folder, port=server.get_port(), host_key=public, key=folder / "key"):
        yield folder
    get_loop().call_soon_threadsafe(server.close)


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Iterator[Store]:
    yield open_store(f"sftp://{HOST}{tmp_path}/set")
    Files.fault = ""


@pytest.mark.usefixtures("home")
class TestLaws(SftpLaws):
    pass


def test_nothing_is_left_beside_a_file_that_was_created_or_replaced(
    store: Store, tmp_path: Path
) -> None:
    store.create("data/a", b"1")
    store.create("data/a", b"2")
    store.replace("data/b", b"3")
    assert sorted(os.listdir(tmp_path / "set" / "data")) == ["a", "b"]


def test_a_lost_connection_is_made_anew(store: Store) -> None:
    store.create("a", b"1")
    for connection in Files.connections:
        get_loop().call_soon_threadsafe(connection.abort)
    assert store.read("a") == b"1"


def test_a_server_that_is_silent_is_asked_again_on_another_connection(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "SILENCE_S", 0.3)
    monkeypatch.setattr(calls, "FIRST_PAUSE_S", 0.1)
    store.create("a", b"1")
    before, Files.fault = len(Files.connections), "silent"
    assert store.read_range("a", 0, 1) == b"1"
    assert store.num_repeats == 1
    assert len(Files.connections) == before + 1


def test_a_writer_whose_folder_is_swept_writes_again(store: Store) -> None:
    Files.fault = "swept"
    assert store.create("data/a", b"1")
    assert store.read("data/a") == b"1"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no-links", ("lacks an extension of OpenSSH's", "link not supported")),
        ("full", ("does not say why (", "a full disk")),
    ],
)
def test_what_the_server_cannot_do_is_one_line_and_leaves_nothing(
    store: Store, tmp_path: Path, fault: str, words: tuple[str, ...]
) -> None:
    Files.fault = fault
    with refused(StoreError, HOST, *words):
        store.create("data/a", b"1")
    assert os.listdir(tmp_path / "set" / "data") == []


def test_what_is_no_file_is_refused_before_it_can_block(store: Store, tmp_path: Path) -> None:
    store.create("a", b"1")
    os.mkfifo(tmp_path / "set" / "pipe")
    (tmp_path / "set" / "folder").mkdir()
    (tmp_path / "set" / "link").symlink_to("a")
    (tmp_path / "set" / "gone").symlink_to("nowhere")
    (tmp_path / "set" / os.fsdecode(b"\xff")).mkdir()
    for name, kind in (("pipe", "a pipe"), ("folder", "a folder")):
        with refused(StoreError, f"{store.url}/{name}: {kind} stands where a file is needed"):
            store.read(name)
    assert store.list() == {"a": 1, "link": 1}
    assert store.names() == ("a", "folder", "gone", "link", "pipe", "\udcff")
    with refused(StoreError, f"{store.url}/a/b: "):
        store.create("a/b", b"1")


def test_a_place_without_folders_is_refused(home: Path) -> None:
    with refused(StoreError, f"sftp://{HOST}/proc/x/a: no folder can be made there"):
        open_store(f"sftp://{HOST}/proc/x").create("a", b"1")


def test_a_server_that_is_not_known_or_has_another_key_is_refused(store: Store, home: Path) -> None:
    lines = known_hosts(home).read_text()
    address, other = lines.split()[0], (home / "key.pub").read_text()
    try:
        for text in ("", f"{address} {other}"):
            known_hosts(home).write_text(text)
            with refused(StoreError, f"sftp://{HOST}: the server is not in ~/.ssh/known_hosts"):
                store.list()
    finally:
        known_hosts(home).write_text(lines)


def test_a_user_who_may_not_log_in_is_told_of_the_credentials(home: Path) -> None:
    config = home / ".ssh" / "config"
    text = config.read_text()
    try:
        config.write_text(text.replace("IdentityFile", "# IdentityFile"))
        with refused(StoreError, "access was refused", "look at the credentials"):
            open_store(f"sftp://{HOST}/x").list()
    finally:
        config.write_text(text)


@pytest.mark.parametrize("rest", ["/x", f"{HOST}", f"{HOST}:port/x", f"{HOST}/x?y", f"{HOST}/x#y"])
def test_a_url_without_host_or_folder_is_refused(rest: str) -> None:
    with refused(StoreError, "expected sftp://HOST/FOLDER"):
        open_store(f"sftp://{rest}")


def test_another_folder_of_the_server_is_another_store(store: Store, tmp_path: Path) -> None:
    assert open_store(f"ssh://{HOST}{tmp_path}").holds(store)
    assert not open_store(f"sftp://{HOST}{tmp_path}/se").holds(store)
    assert not open_store(f"sftp://other{tmp_path}").holds(store)
