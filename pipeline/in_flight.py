"""Which shards a process is making, kept on this machine: the next one makes them apart.

Without Ray nothing outlives a process that a prompt kills, and the same command would meet that
prompt again. So a process says what it is making in a file that it removes at its end. The file of
one that was killed stays, without the lock that it held. The subjects that are tried before a set
is begun are kept in the same way.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from manifests.canonical import sha256_hex
from manifests.foundation.caches import LOCK, NO_CACHE, cache_folder, locked, locked_if_free
from manifests.foundation.files import read_regular

MAX_BYTES = 64 << 20


class InFlight:
    """The note of this process, and what the notes of killed ones say."""

    def __init__(self, left: set[int], file: BinaryIO | None) -> None:
        self.left = left
        """Shards that were being made by processes that were killed, until their end is known. Some
        may be of another share of the set."""
        self._file = file

    def note(self, shards: Iterable[int]) -> None:
        """These shards would be left as well if this process were killed now."""
        if self._file is not None:
            with suppress(OSError):  # a full disk: then they are tried as all others
                self._file.write(f"{json.dumps(sorted({*self.left, *shards}))}\n".encode())


@contextmanager
def in_flight(url: str, work: str) -> Iterator[InFlight]:
    """Take over what killed processes left of a set, and keep a note until the block ends.

    Where this machine can keep none, nothing is left.

    Args:
        work: What is made of that set: the hash of its recipe, or another name.
    """
    try:
        name = sha256_hex(f"{url} {work}".encode())
        left, file = _begin(cache_folder("in-flight") / name)
    except NO_CACHE:
        yield InFlight(set(), None)
        return
    with file:
        flight = InFlight(left, file)
        flight.note(())
        try:
            yield flight
        finally:
            flight.note(())
            if not flight.left:  # else it stays, for those whom these shards concern
                Path(file.name).unlink(missing_ok=True)


def _begin(folder: Path) -> tuple[set[int], BinaryIO]:
    """What is left in a folder of notes, and a new one that is locked."""
    folder.mkdir(parents=True, exist_ok=True)
    left: set[int] = set()
    with locked(folder / LOCK):  # a note that is being begun has no lock of its own yet
        for path in folder.glob("*.jsonl"):
            with locked_if_free(path) as is_killed:
                if is_killed:
                    left |= _last_line(path)
                    path.unlink()
        descriptor, name = tempfile.mkstemp(dir=folder, suffix=".jsonl")
        os.close(descriptor)
        file = open(name, "wb", buffering=0)  # noqa: SIM115 (of a full disk nothing is left over)
        fcntl.flock(file, fcntl.LOCK_EX)
    return left, file


def _last_line(path: Path) -> set[int]:
    """The shards of the last whole line: a process may be killed while it writes one."""
    try:
        *lines, _ = read_regular(path, max_bytes=MAX_BYTES).decode().split("\n")
        return {int(shard) for shard in json.loads(lines[-1])}
    except (OSError, ValueError, TypeError, IndexError):
        return set()
