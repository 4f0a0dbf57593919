"""Buckets of s3, gs and az, where a file can be created only if there is none at its name.

The condition is sent with the upload, so the server decides. The other libraries of fsspec stream
to the final name (sftp, ftp), or look first and overwrite then: nothing is created with them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests.storage.answers import http_status
from manifests.storage.errors import StoreError
from manifests.storage.remote import RemoteStore

PART_BYTES = 16 << 20
"""A larger file is sent in parts of this size."""
CONFLICTS = (409, 412)
"""HTTP: another writer is at this name just now; the name is taken."""

_PART_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"chunksize": PART_BYTES, "max_concurrency": 2},
    "gs": {"chunksize": PART_BYTES},
    "abfs": {},
}
"""What bounds the memory of an upload, by the first name that fsspec has for a scheme."""


class ObjectStore(RemoteStore):
    """The objects under one URL. An upload that is killed leaves nothing that can be listed."""

    can_create = True

    def create(self, path: str, content: bytes | Path) -> bool:
        with self._errors(path):
            try:
                return self._upload(self._path(path), content)
            except FileExistsError:
                return False
            except FileNotFoundError as exc:
                raise StoreError(
                    f"{self.at(path)}: there is no such bucket; make it, or give another URL"
                ) from exc
            except Exception as exc:
                # The same answer of a server has another Python type in each library and version.
                if http_status(exc) in CONFLICTS:
                    return False
                raise

    def _upload(self, path: str, content: bytes | Path) -> bool:
        if isinstance(content, bytes):
            # Not open(path, "xb"): with nothing to write, s3fs overwrites what is there.
            self._fs.pipe_file(path, content, mode="create")
            return True
        # Some servers heed the condition in one request and ignore it where a file is sent in
        # parts. Asking first leaves them only a moment, and spares the upload.
        if self._fs.exists(path):
            return False
        protocol = self._fs.protocol
        options = _PART_OPTIONS[protocol if isinstance(protocol, str) else protocol[0]]
        self._fs.put_file(str(content), path, mode="create", **options)
        return True
