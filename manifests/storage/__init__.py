"""Where the files of a set are kept: the protocol of a store, its laws, and the backends.

A set needs little of its storage: read, read a range, list, and create a file that is not there
yet. Nothing that makes, seals or copies a set has to delete or overwrite.

Laws, tested for every backend by `manifests.storage.testing.StoreLaws`:

1. A file is created whole or not at all. Nobody ever reads half of it, and a writer that is killed
   leaves nothing under its name.
2. `create` never overwrites. Of several writers of one name, one succeeds; the file holds what
   that one wrote. `replace` overwrites, and readers see the old file or the new one.
3. `list`, `names`, `exists`, `size`, `read`, `read_range` and `open` agree on which files exist.
   Reading a file that does not exist raises FileNotFoundError; a folder that does not exist is
   empty.
4. Paths are relative, with forward slashes. A path that leaves the URL is refused.
5. Only ordinary files are read. A pipe, a device, a socket or a folder is refused before it can
   block, and so is a file that is larger than the caller allows.
6. Whatever the storage or its library raises becomes a StoreError of one line, without secrets.
7. A backend states what it can do as class attributes. What it cannot do, it refuses.

Backends over a network also end every call: one that is silent is given up, and one whose error may
pass is made again for a stated time (`manifests.storage.calls`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from manifests.foundation.messages import has_secrets, redact
from manifests.foundation.plugins import Entry, load_plugin
from manifests.storage.errors import StoreError
from manifests.storage.reading import MAX_READ_BYTES

_COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
"""`s3:/bucket`: a URL after `Path` has made one slash of two."""


class Store(Protocol):
    """The files under one URL, named by relative paths. See the laws above.

    Raises:
        StoreError: The storage cannot be opened.
    """

    can_create: ClassVar[bool]
    """Whether a file can be created whole, and only if its name is free."""
    can_delete: ClassVar[bool]
    """Whether files can be removed. Cleaning up needs it, writing a set does not."""
    lists_temporaries: ClassVar[bool]
    """Whether a killed writer can leave temporary files, which `sweep` removes."""

    def __init__(self, url: str) -> None: ...

    @property
    def url(self) -> str:
        """The URL without its secrets and without a slash at its end, for messages."""
        ...

    @property
    def num_repeats(self) -> int:
        """Calls that were made again since the store was opened."""
        return 0

    def at(self, path: str) -> str:
        """Full name of a path, for messages."""
        return f"{self.url}/{path}"

    def local_path(self, path: str) -> Path | None:
        """The file itself if the store is a folder of this machine, or None."""
        return None

    def holds(self, other: "Store") -> bool:
        """Whether the other store is this one or lies inside it."""
        ...

    def read(self, path: str, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        """A whole file of at most `max_bytes`; a larger one is refused.

        Raises:
            FileNotFoundError: There is no such file.
        """
        ...

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer or none where the file ends before.

        Raises:
            FileNotFoundError: There is no such file.
        """
        ...

    def open(self, path: str) -> AbstractContextManager[Any]:
        """A file to be read from its start in pieces, by `read(size)`.

        Raises:
            FileNotFoundError: There is no such file.
        """
        ...

    def list(self, folder: str = "") -> dict[str, int]:
        """Sizes in bytes of the ordinary files directly in a folder, by path in sorted order.

        Temporary files are left out. A folder that does not exist is empty.
        """
        ...

    def files(self, folder: str = "") -> Iterator[str]:
        """The paths that `list` gives, in any order.

        Of a folder of millions, a backend may hold a part in memory at a time.
        """
        return iter(self.list(folder))

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Sorted names of whatever lies directly in a folder: other folders, pipes and links too.

        Temporary files are left out. A folder that does not exist is empty.
        """
        ...

    def size(self, path: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: There is no such file.
        """
        try:
            return self.list(path.rpartition("/")[0])[path]
        except KeyError as exc:
            raise FileNotFoundError(self.at(path)) from exc

    def exists(self, path: str) -> bool:
        """Whether a file or folder of this name exists now."""
        ...

    def modified(self, path: str) -> float | None:
        """When a file was written, in seconds since 1970 by the clock of the storage.

        None if the storage does not say.
        """
        ...

    def create(self, path: str, content: bytes | Path) -> bool:
        """Create a file from bytes or from a local file; False if the name is taken.

        In an object store, False may also mean that the answer to our own upload was lost. A
        caller who has to know reads the file back and compares.

        Raises:
            StoreError: The store has no `can_create`, or the storage refuses.
        """
        raise self._cannot_create()

    def replace(self, path: str, content: bytes | Path) -> None:
        """Write a file from bytes or from a local file, over one that may be there.

        Nothing of a set is written so: it is for what one writer keeps up to date.

        Raises:
            StoreError: The store has no `can_create`, or the storage refuses.
        """
        raise self._cannot_create()

    def delete(self, path: str) -> None:
        """Remove a file; it is no error if there is none.

        Raises:
            StoreError: The store has no `can_delete`, or the storage refuses.
        """
        raise StoreError(
            f"{self.url}: nothing is deleted in this storage; use the tools that come with it"
        )

    def unfinished(self) -> Mapping[str, str]:
        """Uploads in parts that never ended, by their number: the path that each would have had.

        Nobody can read them, and a bucket bills their parts. Other storages have none, or forget
        them by themselves.
        """
        return {}

    def abort(self, upload: str, path: str) -> None:
        """End one of the `unfinished` uploads; it is no error if it is gone.

        Only for a caller who knows that nobody else is writing there.
        """

    def sweep(self, folder: str) -> None:
        """Remove the temporary files of killed writers from a folder, if there can be any.

        Only for a caller who knows that nobody else is writing there.
        """

    def prune(self, folders: Sequence[str]) -> None:
        """Remove folders that are empty; a bucket has none.

        Args:
            folders: Their paths; an empty one is that of the store itself.
        """

    def require_creatable(self) -> None:
        """Refuse a store without `can_create`. Raises StoreError.

        Called before any work is done, so that a job does not fail only when it stores its result.
        """
        if not self.can_create:
            raise self._cannot_create()

    def _cannot_create(self) -> StoreError:
        return StoreError(
            f"{self.url}: this scheme may overwrite what another writer made; give a local folder "
            "or a URL of s3, gs, az or sftp"
        )


_LOCAL = Entry("manifests.storage.local:LocalStore", "")
_S3 = Entry("manifests.storage.objects:ObjectStore", "s3")
_GOOGLE = Entry("manifests.storage.objects:ObjectStore", "gcs")
_AZURE = Entry("manifests.storage.objects:ObjectStore", "azure")
_SFTP = Entry("manifests.storage.sftp:SftpStore", "sftp")

BACKENDS: Mapping[str, Entry] = {
    "file": _LOCAL,
    "local": _LOCAL,
    "s3": _S3,
    "s3a": _S3,
    "gs": _GOOGLE,
    "gcs": _GOOGLE,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "sftp": _SFTP,
    "ssh": _SFTP,
}
"""By scheme; a URL without a scheme is a local folder."""
READ_ONLY = Entry("manifests.storage.remote:RemoteStore", "")
"""For all other schemes that fsspec knows."""


def open_store(url: str) -> Store:
    """The store at a local path or a URL.

    Raises:
        StoreError: The scheme is unknown, a package is missing, or the storage refuses.
    """
    if "::" in url or url.startswith("pipe:"):
        raise StoreError(
            f"{redact(url)}: chained URLs and pipes are not supported; give one plain URL"
        )
    if (collapsed := _COLLAPSED.match(url)) and collapsed[1] in BACKENDS.keys() - {"file", "local"}:
        raise StoreError(
            f"{redact(url)}: is neither a path nor a URL; a URL begins with {collapsed[1]}://"
        )
    scheme, separator, rest = url.partition("://")
    if separator:
        scheme = scheme.lower()
        url = f"{scheme}://{rest}"
    is_local = not separator or BACKENDS.get(scheme) is _LOCAL
    if is_local and (url.startswith("//") or has_secrets(url)):
        raise StoreError(
            f"{redact(url)}: neither a path nor a URL; a path has no user, password or query, and "
            "a URL of another machine begins with a scheme such as s3://"
        )
    entry = BACKENDS.get(scheme if separator else "file", READ_ONLY)
    # A table of this one entry: a scheme that is not in BACKENDS is a store, too.
    backend: type[Store] = load_plugin("store", {scheme: entry}, scheme, Store)
    return backend(url)
