"""A folder of this machine, or one that several machines share.

A file is written under a temporary name and gets its own name by a hard link, which fails where a
rename would overwrite (docs/adr/0009-files-are-created-by-hard-link.md).
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from manifests.foundation.files import TEMPORARY_PREFIX, sync_folder
from manifests.foundation.messages import redact
from manifests.storage import Store
from manifests.storage.errors import StoreError
from manifests.storage.reading import (
    MAX_READ_BYTES,
    OpenFile,
    require_ordinary,
    require_range,
    require_relative,
    require_size,
)

_SCHEMES = ("file://", "local://", "file:", "local:")
_COPY_BYTES = 1 << 20


class LocalStore(Store):
    """The files under one folder, which need not exist before the first file is created."""

    can_create = True
    can_delete = True
    lists_temporaries = True

    def __init__(self, url: str) -> None:
        self._url = redact(url).rstrip("/") or "/"
        scheme = next((prefix for prefix in _SCHEMES if url.startswith(prefix)), "")
        self._root = Path(os.path.abspath(os.path.expanduser(url.removeprefix(scheme))))

    @property
    def url(self) -> str:
        return self._url

    def local_path(self, path: str) -> Path:
        require_relative(self.url, path)
        return self._root / path

    def holds(self, other: Store) -> bool:
        if not isinstance(other, LocalStore):
            return False
        mine, theirs = os.path.realpath(self._root), os.path.realpath(other._root)
        return os.path.commonpath([mine, theirs]) == mine

    def read(self, path: str, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        with self._errors(path), self._open(path) as file:
            # Of the open file, which another one may have replaced under its name.
            size = os.fstat(file.fileno()).st_size
            require_size(self.at(path), size, max_bytes)
            return file.read(size)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        require_range(self.at(path), offset, length)
        with self._errors(path), self._open(path) as file:
            left = os.fstat(file.fileno()).st_size - offset
            file.seek(offset)
            # Never more than is left, because read(n) allocates n bytes before it reads.
            return file.read(max(0, min(length, left)))

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        with self._errors(path):
            file = self._open(path)
        with file:
            yield OpenFile(file, lambda: self._errors(path))

    def _open(self, path: str) -> BinaryIO:
        """Open a regular file; refuse what may block or never end, such as a pipe or /dev/zero."""
        file = self.local_path(path)
        require_ordinary(self.at(path), file.stat().st_mode)
        # A pipe may have taken its place since then. O_NONBLOCK keeps that from blocking, and the
        # second check, of the open file, refuses it.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        opened = os.fdopen(descriptor, "rb")
        try:
            require_ordinary(self.at(path), os.fstat(descriptor).st_mode)
        except StoreError:
            opened.close()
            raise
        return opened

    def list(self, folder: str = "") -> dict[str, int]:
        prefix = f"{folder}/" if folder else ""
        with self._errors(folder):
            return {
                prefix + entry.name: entry.stat().st_size
                for entry in sorted(self._entries(folder), key=lambda entry: entry.name)
                if _is_file(entry)
            }

    def files(self, folder: str = "") -> Iterator[str]:
        prefix = f"{folder}/" if folder else ""
        with self._errors(folder):
            for entry in self._entries(folder):
                if _is_file(entry):
                    yield prefix + entry.name

    def names(self, folder: str = "") -> tuple[str, ...]:
        with self._errors(folder):
            return tuple(sorted(entry.name for entry in self._entries(folder)))

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """Files and folders directly in a folder, in any order, without temporary files."""
        with suppress(FileNotFoundError), os.scandir(self.local_path(folder)) as entries:
            for entry in entries:
                if not entry.name.startswith(TEMPORARY_PREFIX):
                    yield entry

    def size(self, path: str) -> int:
        with self._errors(path), self._open(path) as file:
            return os.fstat(file.fileno()).st_size

    def exists(self, path: str) -> bool:
        with self._errors(path):
            return self.local_path(path).exists()

    def modified(self, path: str) -> float:
        with self._errors(path):
            return self.local_path(path).stat().st_mtime

    def create(self, path: str, content: bytes | Path) -> bool:
        final = self.local_path(path)
        with self._errors(path):
            try:
                final.parent.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as exc:  # of a file system like /proc, which makes no folders
                raise OSError(errno.EACCES, "no folder can be made there") from exc
            # A random name, because two writers may create one file at the same time.
            temporary = final.parent / f"{TEMPORARY_PREFIX}{final.name}-{secrets.token_hex(8)}"
            is_new = True
            try:
                _write(temporary, content)
                try:
                    os.link(temporary, final)
                except FileNotFoundError:
                    # The temporary file is gone: another writer has just sealed the set and swept
                    # its folders.
                    return self.create(path, content)
            except FileExistsError:
                is_new = False
            finally:
                temporary.unlink(missing_ok=True)
            # Also if another writer created the file, since it may have died before this line.
            # What is created next, such as a manifest, must not outlive this file in a power cut.
            sync_folder(final.parent)
        return is_new

    def replace(self, path: str, content: bytes | Path) -> None:
        final = self.local_path(path)
        with self._errors(path):
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = final.parent / f"{TEMPORARY_PREFIX}{final.name}-{secrets.token_hex(8)}"
            try:
                _write(temporary, content)
                os.replace(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(final.parent)

    def delete(self, path: str) -> None:
        with self._errors(path):
            self.local_path(path).unlink(missing_ok=True)

    def sweep(self, folder: str) -> None:
        with self._errors(folder):
            for temporary in self.local_path(folder).glob(f"{TEMPORARY_PREFIX}*"):
                temporary.unlink(missing_ok=True)

    def prune(self, folders: Sequence[str]) -> None:
        # The deepest first, so that the one that held the others is empty by then.
        for folder in sorted(folders, key=len, reverse=True):
            with suppress(OSError):  # it is not empty, is not there, or is needed, as a mount is
                self.local_path(folder).rmdir()

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Turn an error of the file system into a StoreError; FileNotFoundError passes."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as exc:
            where = self.at(path) if path else self.url
            advice = _ADVICE.get(exc.errno or 0, "look at the disk and try again")
            raise StoreError(f"{where}: {exc.strerror or exc}; {advice}") from exc


def _write(path: Path, content: bytes | Path) -> None:
    """Write a new file and wait until it is on disk."""
    with path.open("xb") as target:
        if isinstance(content, Path):
            with content.open("rb") as source:
                shutil.copyfileobj(source, target, _COPY_BYTES)
        else:
            target.write(content)
        target.flush()
        os.fsync(target.fileno())


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


_ADVICE = {
    errno.ENOSPC: "free some space and run the same command again; it continues where it stopped",
    errno.EDQUOT: "raise the quota and run the same command again; it continues where it stopped",
    errno.EACCES: "make the folder accessible to this user, or choose another one",
    errno.EPERM: "the folder is not writable or its file system has no hard links; choose another",
    errno.EOPNOTSUPP: "the file system has no hard links; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another one",
    errno.ELOOP: "a link leads to itself; remove it",
    errno.EEXIST: "a file stands where a folder is needed; choose another one",
    errno.EISDIR: "a folder stands where a file is needed; choose another one",
    errno.ENAMETOOLONG: "the file system cannot hold such a long name; choose a shorter folder",
}
