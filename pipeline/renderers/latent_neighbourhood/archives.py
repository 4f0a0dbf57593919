"""The members of a stranger's archive, read once and by one reader.

Two readers of one zip file may find different members in it, so what was looked at is also what is
used: torch never opens the file itself.
"""

import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from manifests.foundation.files import read_regular
from pipeline.errors import ModelError

MAX_BYTES = 16 << 30
"""Of a file, and of its members unpacked."""


def read_file(path: Path) -> bytes:
    """The bytes of an ordinary file. Raises ModelError."""
    try:
        return read_regular(path, max_bytes=MAX_BYTES)
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read ({exc.strerror or exc})") from exc


def read_members(path: Path) -> Mapping[str, bytes]:
    """All members of a zip file by name, without the folder that holds them all.

    Raises:
        ModelError: It is no zip file, a name comes twice, or it unpacks to more than MAX_BYTES.
    """
    data = read_file(path)
    if data[:1] == b"\x80":
        raise ModelError(
            f"{path}: is a pickle, and to read one is to run whatever program is in it; write the "
            "generator with torch.export.save(torch.export.export(G, inputs), 'NAME.pt2')"
        )
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise ModelError(f"{path}: unpacks to more than {MAX_BYTES >> 30} GiB")
            for info in archive.infolist():
                name = info.filename.partition("/")[2]
                if name in members:
                    raise ModelError(f"{path}: holds {name!r:.80} twice")
                members[name] = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError) as exc:
        raise ModelError(f"{path}: no archive that can be unpacked ({exc})") from exc
    return members


def write_members(members: Mapping[str, bytes]) -> bytes:
    """An archive of members in one folder, in which every reader finds the same."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()
