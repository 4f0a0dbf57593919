"""A folder on a server, over SSH. A whole file gets its name there by a hard link.

The calls of the protocol are made here, because fsspec's own file systems for `sftp` trust every
server, and write under the final name from the first byte on. A link is refused by the server if
the name is taken (docs/adr/0009-files-are-created-by-hard-link.md). Links, renaming over a file
and writing through to the disk are extensions that OpenSSH's server has.

Users, keys, ports and jumps are those of `~/.ssh/config` and of the agent. The server has to be in
`~/.ssh/known_hosts`, as for `ssh` itself.
"""

import asyncio
import os
import secrets
import stat
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import asyncssh
from fsspec.asyn import get_loop

from manifests.foundation.files import TEMPORARY_PREFIX
from manifests.storage import calls
from manifests.storage.calls import Progress
from manifests.storage.errors import StoreError
from manifests.storage.reading import require_ordinary
from manifests.storage.remote import RemoteStore

CONNECT_S = 10.0
KEEPALIVE_S = 15
"""A server that leaves three questions unanswered, so far apart, is gone."""
PIECE_BYTES = 4 << 20
"""So much of a file is sent at once."""

_GONE = (
    *(asyncssh.DisconnectError, asyncssh.ChannelOpenError),
    *(asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection),
)
_Answer = TypeVar("_Answer")
_Connection = tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]


class SftpStore(RemoteStore):
    """The files in a folder of a server: `sftp://host/folder` is `/folder` there."""

    can_create = True
    can_delete = True
    lists_temporaries = True

    def _open_files(self, url: str) -> tuple[Any, str]:
        parts = urlsplit(url)
        try:
            is_right = bool(parts.hostname and parts.path[:1] == "/" and parts.port != 0)
        except ValueError:  # of a port that is no number
            is_right = False
        if not is_right or parts.query or parts.fragment:
            raise StoreError(
                f"{self.url}: expected sftp://HOST/FOLDER, with the folder from the root of the "
                "server on; a user and a port may stand in ~/.ssh/config"
            )
        login = {"username": parts.username, "password": parts.password}
        options = {name: unquote(value) for name, value in login.items() if value is not None}
        return _Server(parts.hostname or "", parts.port, options), parts.path.rstrip("/")

    def create(self, path: str, content: bytes | Path) -> bool:
        return bool(self._send("create", path, content))

    def replace(self, path: str, content: bytes | Path) -> None:
        self._send("replace", path, content)

    def _send(self, method: str, path: str, content: bytes | Path) -> Any:
        name = self._path(path)

        def send() -> Any:
            progress = Progress(calls.limit_s(PIECE_BYTES))
            return calls.call(self._fs, method, name, content, progress.call, progress=progress)

        with self._errors(self.at(path)):
            try:
                return self._repeat(send, self.at(path))
            except FileNotFoundError as exc:
                raise StoreError(
                    f"{self.at(path)}: no folder can be made there; give another URL"
                ) from exc

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._ask("rm_file", self._path(path), where=self.at(path))

    def sweep(self, folder: str) -> None:
        with suppress(FileNotFoundError):
            for entry in self._ask("ls", self._path(folder), detail=True, where=self.at(folder)):
                name = entry["name"].rpartition("/")[2]
                if name.startswith(TEMPORARY_PREFIX):
                    self.delete(f"{folder}/{name}" if folder else name)

    def prune(self, folders: Sequence[str]) -> None:
        for folder in sorted(folders, key=len, reverse=True):
            with suppress(StoreError, FileNotFoundError):  # it is not empty, or not there
                self._ask("rmdir", self._path(folder).rstrip("/"), where=self.at(folder))


class _Server:
    """One connection, with the calls of a file system of fsspec; it is made anew when it is lost.

    Example: `_exists(name)` is what `manifests.storage.calls.call` calls for `exists`.
    """

    async_impl = True

    def __init__(self, host: str, port: int | None, login: dict[str, str]) -> None:
        self.loop = get_loop()
        self.storage_options = {"host": host if port is None else f"{host}:{port}"}
        self._host = host
        self._options: dict[str, Any] = login if port is None else {**login, "port": port}
        self._is_connecting = asyncio.Lock()
        self._connections: list[_Connection] = []  # at most one; shared with what closes it
        weakref.finalize(self, _close, self.loop, self._connections)

    async def _ask(self, action: Callable[[asyncssh.SFTPClient], Awaitable[_Answer]]) -> _Answer:
        """What an action with the client of the connection gives."""
        with _plain_errors(self._host):
            async with self._is_connecting:
                if not self._connections:
                    self._connections.append(await self._connect())
            connection, client = current = self._connections[0]
            # The action itself is never cancelled: it would wait for an answer to its cleaning up.
            running = asyncio.ensure_future(action(client))
            running.add_done_callback(lambda done: done.exception())
            try:
                return await asyncio.shield(running)
            except (asyncio.CancelledError, OSError, *_GONE):
                # Of a call that was ended for its silence, too. The next one connects anew.
                if current in self._connections:
                    self._connections.remove(current)
                connection.abort()
                raise

    async def _connect(self) -> _Connection:
        connection = await asyncssh.connect(
            self._host,
            connect_timeout=CONNECT_S,
            login_timeout=calls.SILENCE_S,
            keepalive_interval=KEEPALIVE_S,
            **self._options,
        )
        return connection, await connection.start_sftp_client(path_errors="surrogateescape")

    async def _cat_file(self, name: str, *, start: int, end: int) -> bytes:
        async def read(client: asyncssh.SFTPClient) -> bytes:
            # Before it is opened: a pipe would block all that is asked on this connection.
            attributes = await client.stat(name)
            require_ordinary(f"sftp://{self._host}{name}", attributes.permissions or 0)
            async with client.open(name, "rb") as file:
                # Of the open file, which another one may have replaced under its name.
                length = min(end, (await file.stat()).size or 0) - start
                data: Any = await file.read(length, start) if length > 0 else b""
                return bytes(data)

        return await self._ask(read)

    async def _ls(self, folder: str, *, detail: bool) -> list[dict[str, Any]]:
        async def read(client: asyncssh.SFTPClient) -> list[dict[str, Any]]:
            named = {os.fsdecode(entry.filename): entry for entry in await client.readdir(folder)}
            return [
                await _entry(client, f"{folder.rstrip('/')}/{name}", entry.attrs)
                for name, entry in named.items()
                if name not in (".", "..")
            ]

        return await self._ask(read)

    async def _info(self, name: str) -> dict[str, Any]:
        async def read(client: asyncssh.SFTPClient) -> dict[str, Any]:
            return await _entry(client, name, await client.stat(name))

        return await self._ask(read)

    async def _exists(self, name: str) -> bool:
        return await self._ask(lambda client: client.exists(name))

    async def _rm_file(self, name: str) -> None:
        await self._ask(lambda client: client.remove(name))

    async def _rmdir(self, name: str) -> None:
        await self._ask(lambda client: client.rmdir(name))

    async def _create(self, name: str, content: bytes | Path, on_piece: Callable[[], None]) -> bool:
        async def create(client: asyncssh.SFTPClient) -> bool:
            async with _temporary(client, name, content, on_piece) as temporary:
                try:
                    await client.link(temporary, name)
                except asyncssh.SFTPNoSuchFile:
                    # Another writer has just sealed the set and swept its folders.
                    return await create(client)
                except asyncssh.SFTPFailure:  # the protocol has no word for a name that is taken
                    with suppress(asyncssh.SFTPNoSuchFile):
                        await client.lstat(name)
                        return False
                    raise
                return True

        return await self._ask(create)

    async def _replace(
        self, name: str, content: bytes | Path, on_piece: Callable[[], None]
    ) -> None:
        async def replace(client: asyncssh.SFTPClient) -> None:
            async with _temporary(client, name, content, on_piece) as temporary:
                await client.posix_rename(temporary, name)

        await self._ask(replace)


@asynccontextmanager
async def _temporary(
    client: asyncssh.SFTPClient, name: str, content: bytes | Path, on_piece: Callable[[], None]
) -> AsyncIterator[str]:
    """The content under a name of its own, on the disk of the server; removed at the end."""
    folder, _, last = name.rpartition("/")
    temporary = f"{folder}/{TEMPORARY_PREFIX}{last}-{secrets.token_hex(8)}"
    try:
        try:
            file = await client.open(temporary, "xb")
        except asyncssh.SFTPNoSuchFile:
            await client.makedirs(folder, exist_ok=True)
            file = await client.open(temporary, "xb")
        async with file:
            for piece in _pieces(content):
                await file.write(piece)
                on_piece()
            await file.fsync()
        yield temporary
    finally:
        with suppress(asyncssh.Error):  # of a connection that is gone, or after a rename
            await client.remove(temporary)


def _pieces(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        for start in range(0, len(content), PIECE_BYTES):
            yield content[start : start + PIECE_BYTES]
        return
    with content.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


async def _entry(
    client: asyncssh.SFTPClient, name: str, attributes: asyncssh.SFTPAttrs
) -> dict[str, Any]:
    """What fsspec says of a file. Of a link, what is said of the file that it leads to."""
    if stat.S_ISLNK(attributes.permissions or 0):
        with suppress(asyncssh.SFTPError):  # it leads nowhere
            attributes = await client.stat(name)
    return {
        "name": name,
        "type": "file" if stat.S_ISREG(attributes.permissions or 0) else "other",
        "size": attributes.size,
        "mtime": datetime.fromtimestamp(attributes.mtime or 0, UTC),
    }


@contextmanager
def _plain_errors(host: str) -> Iterator[None]:
    """Turn errors of the library into those that a file system raises."""
    try:
        yield
    except asyncssh.SFTPNoSuchFile as exc:
        raise FileNotFoundError(str(exc)) from exc
    except asyncssh.HostKeyNotVerifiable as exc:
        raise StoreError(
            f"sftp://{host}: the server is not in ~/.ssh/known_hosts, or has another key than "
            "there; look at its key, and connect with ssh once"
        ) from exc
    except (asyncssh.PermissionDenied, asyncssh.SFTPPermissionDenied) as exc:
        raise PermissionError(str(exc)) from exc
    except asyncssh.SFTPOpUnsupported as exc:
        raise StoreError(
            f"sftp://{host}: the server lacks an extension of OpenSSH's that is needed to write "
            f"({exc}); use that server, or make the set elsewhere"
        ) from exc
    except asyncssh.SFTPFailure as exc:
        raise OSError(
            f"the server could not do it, and this protocol does not say why ({exc}): such as a "
            "full disk, a folder in the place of a file, a file system without hard links"
        ) from exc
    except _GONE as exc:
        raise ConnectionError(str(exc)) from exc


def _close(loop: asyncio.AbstractEventLoop, connections: list[_Connection]) -> None:
    for connection, _ in connections:
        if loop.is_running():
            loop.call_soon_threadsafe(connection.abort)
