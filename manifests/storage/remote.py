"""Any storage that fsspec can read: web servers, sftp, webhdfs, github and many more.

Nothing is written there, because these file systems may overwrite a file or show half of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from manifests.foundation.errors import SynthError
from manifests.foundation.files import TEMPORARY_PREFIX
from manifests.foundation.messages import one_line, redact
from manifests.storage import BACKENDS, Store
from manifests.storage.answers import explain, http_status
from manifests.storage.errors import StoreError
from manifests.storage.reading import (
    MAX_READ_BYTES,
    OpenFile,
    require_range,
    require_relative,
    require_size,
)

BLOCK_BYTES = 16 << 20
"""How much of an open file is fetched at once; it bounds the memory of a reader."""

_RANGE_NOT_SATISFIABLE = 416
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
        scheme = url.partition("://")[0]
        known = {*fsspec.available_protocols(), *fsspec.registry}
        if scheme not in known:
            raise StoreError(
                f"{self._url}: unknown scheme {scheme!r}; known schemes: {', '.join(sorted(known))}"
            )
        try:
            # No cache of listings: other writers add files while this process runs.
            self._fs, self._root = url_to_fs(url, use_listings_cache=False)
        except ImportError as exc:
            extra = BACKENDS[scheme].extra if scheme in BACKENDS else ""
            advice = f"pip install 'synth-rep[{extra}]'" if extra else "install that package"
            raise StoreError(f"{self._url}: {one_line(exc, about=url)}; {advice}") from exc
        except Exception as exc:  # some libraries connect here, and raise what they like
            raise StoreError(
                f"{self._url}: cannot be opened ({one_line(exc, about=url)}); look at the address "
                f"and at the credentials that {scheme} needs"
            ) from exc

    @property
    def url(self) -> str:
        return self._url

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
        # One byte more than allowed shows that the file is larger, without a request for its size.
        data = self._read_range(path, 0, max_bytes + 1)
        require_size(self.at(path), len(data), max_bytes)
        return data

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
        with self._errors(path):
            try:
                data: bytes = self._fs.cat_file(self._path(path), start=offset, end=offset + length)
            except Exception as exc:
                if http_status(exc) != _RANGE_NOT_SATISFIABLE:
                    raise
                return b""  # how HTTP answers a range that begins after the end of a file
            return data

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        with self._errors(path):
            file = self._fs.open(self._path(path), "rb", block_size=BLOCK_BYTES)
        with file:
            yield OpenFile(file, lambda: self._errors(path))

    def list(self, folder: str = "") -> dict[str, int]:
        prefix = f"{folder}/" if folder else ""
        with self._errors(folder):
            return {
                prefix + name: self._size(entry)
                for name, entry in self._entries(folder).items()
                if entry["type"] == "file"
            }

    def _size(self, entry: dict[str, Any]) -> int:
        """The size of a listed file. Listings of web servers have none, so the server is asked."""
        size = entry["size"]
        return int(self._fs.size(entry["name"]) if size is None else size)

    def names(self, folder: str = "") -> tuple[str, ...]:
        with self._errors(folder):
            return tuple(self._entries(folder))

    def _entries(self, folder: str) -> dict[str, Any]:
        """Entries of fsspec for a folder by name, sorted, without temporary files.

        A folder that was copied to this storage may have brought temporary files with it.
        """
        try:
            entries = self._fs.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return {}
        by_name = {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}
        return {
            name: by_name[name]
            for name in sorted(by_name)
            if name and not name.startswith(TEMPORARY_PREFIX)
        }

    def exists(self, path: str) -> bool:
        with self._errors(path):
            return bool(self._fs.exists(self._path(path)))

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Turn whatever a library raises into a StoreError; FileNotFoundError passes."""
        try:
            yield
        except (FileNotFoundError, SynthError):
            raise
        except Exception as exc:
            where = self.at(path) if path else self.url
            raise StoreError(f"{where}: {explain(exc, about=self._url_with_secrets)}") from exc
