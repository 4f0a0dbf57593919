"""Any storage that fsspec can read: web servers, ftp, webhdfs, github and many more.

Nothing is written there, because these file systems may overwrite a file or show half of it.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from manifests.foundation.errors import SynthError
from manifests.foundation.files import TEMPORARY_PREFIX
from manifests.foundation.messages import one_line, redact
from manifests.storage import BACKENDS, Store, calls
from manifests.storage.answers import explain, http_status
from manifests.storage.calls import LISTING_S, Progress, Repeater
from manifests.storage.errors import StoreError
from manifests.storage.reading import (
    MAX_READ_BYTES,
    require_range,
    require_relative,
    require_size,
)

PIECE_BYTES = 1 << 20
BLOCK_BYTES = 16 << 20
"""How much of an open file is fetched at once; it bounds the memory of a reader."""

_RANGE_NOT_SATISFIABLE = 416
_S3_SCHEMES = ("s3", "s3a")
_SERVER_OPTIONS = ("host", "account_name")
"""Options that name the server of a file system: equal paths on two servers are two files."""


class RemoteStore(Store):
    """The files under a URL of any scheme that fsspec knows, to be read only."""

    can_create = False
    can_delete = False
    lists_temporaries = False

    def __init__(self, url: str) -> None:
        self._url = redact(url).rstrip("/")
        self._url_with_secrets = url
        self._fs, self._root = self._open_files(url)
        self._repeat = Repeater(url)

    def _open_files(self, url: str) -> tuple[Any, str]:
        """A file system of fsspec, and the path of the store in it."""
        scheme = url.partition("://")[0]
        known = {*fsspec.available_protocols(), *fsspec.registry}
        if scheme not in known:
            raise StoreError(
                f"{self._url}: unknown scheme {scheme!r}; known schemes: {', '.join(sorted(known))}"
            )
        try:
            # No cache of listings: other writers add files while this process runs. An instance of
            # its own, because the number of its tries is changed below.
            files, root = url_to_fs(
                url, use_listings_cache=False, skip_instance_cache=True, **_options(scheme)
            )
        except ImportError as exc:
            extra = BACKENDS[scheme].extra if scheme in BACKENDS else ""
            advice = f"pip install 'synth-rep[{extra}]'" if extra else "install that package"
            raise StoreError(f"{self._url}: {one_line(exc, about=url)}; {advice}") from exc
        except Exception as exc:  # some libraries connect here, and raise what they like
            raise StoreError(
                f"{self._url}: cannot be opened ({one_line(exc, about=url)}); look at the address "
                f"and at the credentials that {scheme} needs"
            ) from exc
        if scheme in _S3_SCHEMES:
            files.retries = 1  # `Repeater` is the one layer that makes a call again
        return files, root

    @property
    def url(self) -> str:
        return self._url

    @property
    def num_repeats(self) -> int:
        return self._repeat.num_repeats

    def holds(self, other: Store) -> bool:
        if not isinstance(other, RemoteStore) or self._server() != other._server():
            return False
        # With a slash at the end, so that `set` does not hold `set2`.
        return f"{other._root}/".startswith(f"{self._root}/")

    def _server(self) -> tuple[Any, ...]:
        # The type and not the scheme of the URL, because s3:// and s3a:// are one storage.
        options = self._fs.storage_options
        return (type(self._fs), *(options.get(name) for name in _SERVER_OPTIONS))

    def _path(self, path: str) -> str:
        require_relative(self.url, path)
        return f"{self._root}/{path}"

    def read(self, path: str, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        content, size = [], 0
        with self.open(path) as file:
            while size <= max_bytes and (piece := file.read(PIECE_BYTES)):
                content.append(piece)
                size += len(piece)
        require_size(self.at(path), size, max_bytes)
        return b"".join(content)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        require_range(self.at(path), offset, length)
        data = self._read_range(path, offset, length) if length else b""
        if len(data) > length:
            raise StoreError(
                f"{self.at(path)}: the server sends the whole file where a part is asked for; "
                "use a server that supports range requests, or copy the set"
            )
        return data

    def _read_range(self, path: str, offset: int, length: int) -> bytes:
        def ask() -> bytes:
            try:
                progress = Progress(calls.limit_s(length))
                start, end = offset, offset + length
                name = self._path(path)
                data = calls.call(
                    self._fs, "cat_file", name, start=start, end=end, progress=progress
                )
            except Exception as exc:
                if http_status(exc) != _RANGE_NOT_SATISFIABLE:
                    raise
                return b""  # how HTTP answers a range that begins after the end of a file
            return bytes(data)

        with self._errors(self.at(path)):
            return self._repeat(ask, self.at(path))

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        blocks = _Blocks(lambda offset: self._read_range(path, offset, BLOCK_BYTES))
        with io.BufferedReader(blocks) as file:
            yield file

    def list(self, folder: str = "") -> dict[str, int]:
        prefix = f"{folder}/" if folder else ""
        return {
            prefix + name: self._size(entry)
            for name, entry in self._entries(folder).items()
            if entry["type"] == "file"
        }

    def _size(self, entry: dict[str, Any]) -> int:
        """The size of a listed file. Listings of web servers have none, so the server is asked."""
        size, name = entry["size"], entry["name"]
        if size is None:
            size = self._ask("size", name, where=f"{self.url}/{name.rpartition('/')[2]}")
        return int(size)

    def names(self, folder: str = "") -> tuple[str, ...]:
        return tuple(self._entries(folder))

    def _entries(self, folder: str) -> dict[str, Any]:
        """Entries of fsspec for a folder by name, sorted, without temporary files.

        A folder that was copied to this storage may have brought temporary files with it.
        """
        where = self.at(folder) if folder else self.url
        try:
            entries = self._ask(
                "ls", self._path(folder), detail=True, where=where, limit_s=LISTING_S
            )
        except FileNotFoundError:
            return {}
        by_name = {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}
        return {
            name: by_name[name]
            for name in sorted(by_name)
            if name and not name.startswith(TEMPORARY_PREFIX)
        }

    def size(self, path: str) -> int:
        entry = self._ask("info", self._path(path), where=self.at(path))
        if entry["type"] != "file":
            raise FileNotFoundError(self.at(path))
        if entry["size"] is None:
            raise StoreError(f"{self.at(path)}: the server does not say its size; copy the set")
        return int(entry["size"])

    def exists(self, path: str) -> bool:
        return bool(self._ask("exists", self._path(path), where=self.at(path)))

    def modified(self, path: str) -> float | None:
        entry = self._ask("info", self._path(path), where=self.at(path))
        # s3fs, adlfs, gcsfs and the file systems of fsspec itself have a name each.
        for name in ("LastModified", "last_modified", "mtime", "created"):
            if isinstance(when := entry.get(name), datetime):
                return when.timestamp()
        return None

    def _ask(
        self, method: str, *args: Any, where: str, limit_s: float | None = None, **options: Any
    ) -> Any:
        """Answer to a small question, which is asked again where that may help."""

        def ask() -> Any:
            progress = Progress(calls.limit_s(0) if limit_s is None else limit_s)
            return calls.call(self._fs, method, *args, progress=progress, **options)

        with self._errors(where):
            return self._repeat(ask, where)

    @contextmanager
    def _errors(self, where: str) -> Iterator[None]:
        """Turn whatever a library raises into a StoreError; FileNotFoundError passes."""
        try:
            yield
        except (FileNotFoundError, SynthError):
            raise
        except Exception as exc:
            raise StoreError(f"{where}: {explain(exc, about=self._url_with_secrets)}") from exc


class _Blocks(io.RawIOBase):
    """A file of which each block is one call of its store."""

    def __init__(self, read_block: Callable[[int], bytes]) -> None:
        self._read_block = read_block
        self._offset = 0
        # At once, so that a file that does not exist is not opened.
        self._block = memoryview(read_block(0))
        # Longer is the whole file, from a server that knows no ranges.
        self._is_last = len(self._block) != BLOCK_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._block and not self._is_last:
            self._block = memoryview(self._read_block(self._offset))
            self._is_last = len(self._block) < BLOCK_BYTES
        size = min(len(buffer), len(self._block))
        buffer[:size] = self._block[:size]
        self._block = self._block[size:]
        self._offset += size
        return size


def _options(scheme: str) -> dict[str, Any]:
    """Of the library of a scheme: so that it does not make calls again itself."""
    if scheme not in _S3_SCHEMES:
        return {}
    # What is passed here replaces what the user has set for fsspec, so that goes in as well.
    own = fsspec.config.conf.get(scheme, {}).get("config_kwargs", {})
    defaults = {"connect_timeout": 10, "read_timeout": calls.SILENCE_S}
    return {"config_kwargs": {**defaults, **own, "retries": {"max_attempts": 0}}}
