"""Buckets of s3, gs and az, where a file can be created only if its name is free.

The condition is sent with the upload, so the server decides. Nothing is created through the other
file systems of fsspec: they write under the final name from the first byte on, such as ftp, or look
whether a file exists and then overwrite the one that another writer created in between.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from manifests.foundation.files import TEMPORARY_PREFIX
from manifests.storage.answers import http_status
from manifests.storage.calls import Progress, call, limit_s
from manifests.storage.errors import StoreError
from manifests.storage.remote import RemoteStore

PART_BYTES = 16 << 20
"""A larger file is sent in parts of this size."""
CONFLICTS = (409, 412)
"""HTTP: 409, another writer is creating this name right now; 412, the name is taken."""

_PART_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"chunksize": PART_BYTES, "max_concurrency": 2},
    "gs": {"chunksize": PART_BYTES},
    "abfs": {},
}
"""Options that bound the memory of an upload, by the first name that fsspec has for a scheme."""


class ObjectStore(RemoteStore):
    """The objects under one URL. An upload that is killed leaves nothing that can be listed."""

    can_create = True
    can_delete = True

    def create(self, path: str, content: bytes | Path) -> bool:
        with self._upload_errors(path):
            try:
                return self._repeat(lambda: self._upload_new(path, content), self.at(path))
            except FileExistsError:
                return False
            except Exception as exc:
                # Each library and version raises another type of exception for these answers.
                if http_status(exc) in CONFLICTS:
                    return False
                raise

    def replace(self, path: str, content: bytes | Path) -> None:
        with self._upload_errors(path):
            self._repeat(lambda: self._upload(path, content, mode="overwrite"), self.at(path))

    @contextmanager
    def _upload_errors(self, path: str) -> Iterator[None]:
        with self._errors(self.at(path)):
            try:
                yield
            except FileNotFoundError as exc:
                raise StoreError(
                    f"{self.at(path)}: there is no such bucket; make it, or give another URL"
                ) from exc

    def _upload_new(self, path: str, content: bytes | Path) -> bool:
        # Some servers obey the condition in a single request and ignore it where a file is sent in
        # parts. Asking first leaves only a moment in which they can overwrite. It also saves the
        # upload of a file that exists. A byte is asked for, because `exists` of s3fs lists a folder
        # where it finds no file.
        if isinstance(content, Path) and content.stat().st_size > PART_BYTES:
            with suppress(FileNotFoundError):
                name, progress = self._path(path), Progress(limit_s(0))
                call(self._fs, "cat_file", name, start=0, end=1, progress=progress)
                return False
        self._upload(path, content, mode="create")
        return True

    def _upload(self, path: str, content: bytes | Path, *, mode: str) -> None:
        name = self._path(path)
        if isinstance(content, Path) and content.stat().st_size <= PART_BYTES:
            content = content.read_bytes()
        if isinstance(content, bytes):
            # Not open(path, "xb"): for empty content s3fs overwrites an existing file.
            progress = Progress(limit_s(len(content)))
            call(self._fs, "pipe_file", name, content, mode=mode, progress=progress)
            return
        protocol = self._fs.protocol
        options = _PART_OPTIONS[protocol if isinstance(protocol, str) else protocol[0]]
        # Of two parts at once nothing is heard before one of them is whole.
        progress = Progress(limit_s(2 * PART_BYTES))
        arguments = {"mode": mode, "callback": progress, **options}
        call(self._fs, "put_file", str(content), name, progress=progress, **arguments)

    def list(self, folder: str = "") -> dict[str, int]:
        return dict(sorted(self._objects(folder))) if self._is_s3 else super().list(folder)

    def files(self, folder: str = "") -> Iterator[str]:
        return (path for path, _ in self._objects(folder)) if self._is_s3 else super().files(folder)

    def _objects(self, folder: str) -> Iterator[tuple[str, int]]:
        """Path and size of each file in a folder of s3.

        One page is in memory at a time, and one that breaks is asked for again by itself: a million
        files are a thousand pages.
        """
        prefix = f"{folder}/" if folder else ""
        bucket, key, _ = self._fs.split_path(self._path(prefix))
        question = {"Bucket": bucket, "Prefix": key, "Delimiter": "/", **self._fs.req_kw}
        is_last = False
        while not is_last:
            try:
                page = self._ask_s3("list_objects_v2", folder=folder, **question)
            except FileNotFoundError:  # there is no such bucket
                return
            for entry in page.get("Contents", ()):
                name = entry["Key"].removeprefix(key)
                if name and not name.startswith(TEMPORARY_PREFIX):
                    yield prefix + name, entry["Size"]
            is_last = not page.get("IsTruncated")
            question["ContinuationToken"] = page.get("NextContinuationToken")

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._ask("rm_file", self._path(path), where=self.at(path))

    def unfinished(self) -> Mapping[str, str]:
        if not self._is_s3:
            return {}  # gs and az forget them after a week and bill no parts
        bucket, _, root = self._root.partition("/")
        prefix = f"{root}/" if root else ""
        uploads: dict[str, str] = {}
        more: dict[str, Any] = {}
        while True:
            page = self._ask_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **more)
            for upload in page.get("Uploads", ()):
                uploads[upload["UploadId"]] = upload["Key"].removeprefix(prefix)
            if not page.get("IsTruncated"):
                return uploads
            more = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    def abort(self, upload: str, path: str) -> None:
        bucket, _, key = self._path(path).partition("/")
        with suppress(FileNotFoundError):
            self._ask_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)

    @property
    def _is_s3(self) -> bool:
        return isinstance(self._fs.protocol, tuple) and "s3" in self._fs.protocol

    def _ask_s3(self, operation: str, *, folder: str = "", **arguments: Any) -> Any:
        where = self.at(folder) if folder else self.url
        return self._ask("call_s3", operation, where=where, **arguments)
