"""All that the code knows of storage: read, read a range, list, create if absent, delete.

Reading goes through fsspec and takes any of its schemes. A file is created in a local folder or
in an object store that knows conditional writes: it is complete under its name or does not exist,
and nothing is ever overwritten. Deleting knows local folders only.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from manifests.foundation.errors import SynthError
from manifests.foundation.files import TEMPORARY_PREFIX, sync_folder
from manifests.foundation.messages import one_line, redact
from manifests.storage.errors import StoreError
from manifests.storage.uploading import can_create, http_status, upload_new

BLOCK_BYTES = 16 << 20
"""What a file that is read in pieces is fetched in: bounds the memory of many at once."""


class Store:
    """The files under one URL, named by relative paths with forward slashes.

    Raises:
        StoreError: The scheme is unknown, its package is missing, or the storage refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = redact(url).rstrip("/")
        self._given = url
        if "::" in url or url.startswith("pipe:"):
            raise StoreError(f"{self.url}: chained and pipe URLs are not read; give one plain URL")
        try:
            self._fs, self._root = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as exc:
            known = ", ".join(sorted(fsspec.available_protocols()))
            raise StoreError(
                f"{self.url}: {one_line(exc, about=url)}; known schemes: {known}"
            ) from exc
        self._is_local = isinstance(self._fs, LocalFileSystem)

    def at(self, path: str) -> str:
        """Full name of a path, for messages."""
        return f"{self.url}/{path}"

    def local_path(self, path: str) -> Path | None:
        """The file itself if the store is a folder of this machine."""
        return Path(self._path(path)) if self._is_local else None

    def holds(self, other: "Store") -> bool:
        """Whether the other store is this very place, or lies in it."""
        if self._place() != other._place():
            return False
        mine, theirs = (
            os.path.realpath(each._root) if each._is_local else each._root for each in (self, other)
        )
        return f"{theirs}/".startswith(f"{mine}/")

    def _place(self) -> tuple[Any, ...]:
        """What must be equal for two paths to mean the same."""
        options = self._fs.storage_options
        return (type(self._fs), *(options.get(key) for key in ("host", "account_name")))

    def _path(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise StoreError(f"{self.at(path)}: a path of a set is relative and has no '..'")
        return f"{self._root}/{path}"

    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError if it does not exist."""
        with self._errors(path):
            data: bytes = self._fs.cat_file(self._path(path))
            return data

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer at the end of the file."""
        with self._errors(path):
            data: bytes = self._fs.cat_file(self._path(path), start=offset, end=offset + length)
            if len(data) > length:
                raise StoreError(
                    f"{self.at(path)}: the server sends whole files where a part is asked for; "
                    "take one that knows range requests, or copy the set"
                )
            return data

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        """A file for reading in pieces. Raises FileNotFoundError if it does not exist."""
        with (
            self._errors(path),
            self._fs.open(self._path(path), "rb", block_size=BLOCK_BYTES) as file,
        ):
            yield file

    def list(self, folder: str = "") -> dict[str, int]:
        """Sizes in bytes of the files directly in a folder by path; folders are left out.

        A folder that does not exist is empty.
        """
        prefix = f"{folder}/" if folder else ""
        files = {
            prefix + name: each
            for name, each in self._entries(folder).items()
            if each["type"] == "file"
        }
        with self._errors(folder):  # the list of a web server tells no sizes
            return {
                path: self._fs.size(each["name"]) if each["size"] is None else each["size"]
                for path, each in files.items()
            }

    def names(self) -> tuple[str, ...]:
        """Names of whatever lies directly under the URL, folders too."""
        return tuple(self._entries(""))

    def _entries(self, folder: str) -> dict[str, Any]:
        with self._errors(folder):
            try:
                found = self._fs.ls(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
        names = {each["name"].rstrip("/").rpartition("/")[2]: each for each in found}
        return {
            name: names[name] for name in sorted(names) if not name.startswith(TEMPORARY_PREFIX)
        }

    def exists(self, path: str) -> bool:
        """Whether a file (or folder) is there now."""
        with self._errors(path):
            return bool(self._fs.exists(self._path(path)))

    def create(self, path: str, content: bytes | Path) -> bool:
        """Create a file from bytes or from a local file; False if one is already there.

        The file appears under its name whole and on disk, or not at all. In an object store
        False may also mean that the answer to our own upload was lost: read back and compare.
        """
        self.require_creatable()
        if not self._is_local:
            with self._errors(path):
                try:
                    return upload_new(self._fs, self._path(path), content)
                except FileNotFoundError as exc:
                    raise StoreError(
                        f"{self.at(path)}: there is no such bucket; make it, or give another URL"
                    ) from exc
        final = Path(self._path(path))
        with self._errors(path):
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = final.parent / f"{TEMPORARY_PREFIX}{final.name}-{secrets.token_hex(8)}"
            is_new = True
            try:
                with temporary.open("xb") as target:
                    if isinstance(content, Path):
                        with content.open("rb") as source:
                            shutil.copyfileobj(source, target, 1 << 20)
                    else:
                        target.write(content)
                    target.flush()
                    os.fsync(target.fileno())
                try:
                    # A hard link fails where a rename would overwrite: it is the create-if-absent.
                    os.link(temporary, final)
                except FileNotFoundError:  # swept by a writer that has just sealed the set
                    return self.create(path, content)
            except FileExistsError:
                is_new = False
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(final.parent)  # in both cases: who made it may have died before this line
        return is_new

    def delete(self, path: str) -> None:
        """Remove a file; one that is not there is fine."""
        self.require_writable()
        with self._errors(path):
            Path(self._path(path)).unlink(missing_ok=True)

    def replace(self, path: str, content: bytes) -> None:
        """Write an advisory file, whatever was there. Never for recipe, tars, manifests or seal."""
        self.delete(path)
        self.create(path, content)

    def sweep(self, folder: str) -> None:
        """Remove what killed writers left behind; only when nobody else can be writing.

        An object store shows no such files.
        """
        if not self._is_local:
            return
        with self._errors(folder):
            for left in Path(self._path(folder)).glob(f"{TEMPORARY_PREFIX}*"):
                left.unlink(missing_ok=True)

    def require_writable(self) -> None:
        """Refuse a scheme in which a set cannot be made yet, which takes deleting too."""
        if not self._is_local:
            raise StoreError(
                f"{self.url}: sets are made in local folders only; make it in one and copy it when "
                "it is sealed: `synth publish FOLDER URL`"
            )

    def require_creatable(self) -> None:
        """Refuse a scheme in which a file cannot be created only if it is absent."""
        if not self._is_local and not can_create(self._fs):
            raise StoreError(
                f"{self.url}: this scheme may overwrite what another writer made; give a local "
                "folder or a URL of s3, gs or az"
            )

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Turn what the file system says into one line; FileNotFoundError passes."""
        try:
            yield
        except (FileNotFoundError, SynthError):
            raise
        except Exception as exc:
            # Libraries of remote schemes raise errors of their own, with the URL in them.
            if self._is_local and not isinstance(exc, OSError):
                raise
            where = self.at(path) if path else self.url
            told, advice = one_line(exc, about=self._given), "look at it and try again"
            if isinstance(exc, OSError) and self._is_local:
                told, advice = exc.strerror or told, _ADVICE.get(exc.errno or 0, advice)
            elif isinstance(exc, PermissionError) or http_status(exc) in (401, 403):
                advice = "look at the credentials and what they may do there"
            raise StoreError(f"{where}: {told}; {advice}") from exc


_ADVICE = {
    errno.ENOSPC: "free some space and run the same command again, it goes on where it stopped",
    errno.EDQUOT: "raise the quota and run the same command again, it goes on where it stopped",
    errno.EACCES: "make the folder writable for this user, or choose another one",
    errno.EPERM: "the folder is not writable or its file system has no hard links; choose another",
    errno.EOPNOTSUPP: "the file system has no hard links; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another one",
    errno.EEXIST: "a file stands where a folder is needed; choose another one",
    errno.EISDIR: "a folder stands where a file is needed; choose another one",
    errno.ENAMETOOLONG: "the file system cannot hold such a long name; choose a shorter folder",
}
