"""Create an object only if it is absent, in the storage of other machines.

Only libraries that send the condition with the upload are in the table. The others of fsspec
stream to the final name (sftp, ftp) or look first and then overwrite: a set is not written there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PART_BYTES = 16 << 20
CONFLICTS = (409, 412)
"""HTTP: another writer is at this name now; the name is taken."""

_PART_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"chunksize": PART_BYTES, "max_concurrency": 2},
    "gs": {"chunksize": PART_BYTES},
    "abfs": {},
}
"""What bounds the memory of an upload, by the first name of a scheme."""


def can_create(fs: Any) -> bool:
    """Whether a file of this file system can be created only if it is absent."""
    return _scheme(fs) in _PART_OPTIONS


def upload_new(fs: Any, path: str, content: bytes | Path) -> bool:
    """Create an object from bytes or from a local file; False if the storage says it is there.

    False is no proof: an upload whose answer was lost is sent again and finds itself, and a store
    may be busy with another writer. Who needs to know reads the object back.

    Raises:
        FileNotFoundError: The bucket does not exist.
    """
    try:
        if isinstance(content, Path):
            # Some stores heed the condition in one request and ignore it where a file is sent in
            # parts. To ask first leaves them a moment, and spares the sending.
            if fs.exists(path):
                return False
            fs.put_file(str(content), path, mode="create", **_PART_OPTIONS[_scheme(fs)])
        else:
            # Not open(path, "xb"): with nothing to write s3fs overwrites what is there.
            fs.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    except Exception as exc:
        # The same answer of a server has another Python type in each library and version.
        if http_status(exc) in CONFLICTS:
            return False
        raise
    return True


def http_status(exc: BaseException | None) -> int | None:
    """What the server answered, found in an exception or in what caused it."""
    while exc is not None:
        response = getattr(exc, "response", None)
        if isinstance(response, Mapping):  # botocore
            return int(response["ResponseMetadata"]["HTTPStatusCode"])
        for name in ("status_code", "code", "status"):  # azure, gcsfs, aiohttp
            if str(value := getattr(exc, name, "")).isdecimal():
                return int(value)
        exc = exc.__cause__
    return None


def _scheme(fs: Any) -> str:
    return fs.protocol if isinstance(fs.protocol, str) else str(fs.protocol[0])
