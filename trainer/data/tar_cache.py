"""Tars of a source on a disk of this machine, for runs that read all of them in every epoch.

A full shuffle takes each group from another tar, so no group waits for a whole tar: it is read by
its range from the storage until its tar is here. Meanwhile a few threads of the machine fetch tars
one after the other, until all are here or the room is used up. Of a source that is larger than the
room a part is kept and stays, because a shuffle needs each tar as often as every other.

    FOLDER/synth-tars/lock              held while room is counted and made
    FOLDER/synth-tars/NAME/lock         held by all who read the source; its time is the last use
    FOLDER/synth-tars/NAME/fetching-0   held by the thread that fetches every fourth tar from 0 on
    FOLDER/synth-tars/NAME/000000.tar   takes its name when it is whole and its hash is right
"""

import fcntl
import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from manifests.errors import CorruptError
from manifests.foundation.caches import LOCK, locked, locked_if_free, shrink
from manifests.foundation.errors import ConfigError, SynthError
from manifests.foundation.files import TEMPORARY_PREFIX, whole_file
from manifests.foundation.messages import one_line
from manifests.rereading import reread
from manifests.storage import Store
from trainer.data.sources import Cache

TARS_AT_ONCE = 4
"""Tars of a source that a machine fetches at once, whatever the number of its processes. Each takes
a block of the store in memory, of 16 MiB."""
PIECE_BYTES = 1 << 20
SPARE_BYTES = 1 << 30
"""Of the disk that are left to others, such as checkpoints."""
PAUSE_S = 60.0
"""A process looks again after so long whether the one that fetches has died."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeTar:
    """A tar that may be kept."""

    path: str
    """In the store."""
    num_bytes: int
    sha256: str
    """Empty if nobody has noted it; what is read of the tar is checked in any case."""


class _NoRoomError(Exception):
    """The cache is full, and what it holds is in use."""


class TarCache:
    """The tars of one source. Threads of any number of processes may use it at once.

    Args:
        cache: Where, and how much.
        name: Different for different tars.
        num_tars: The tars are numbered from 0.
        tar: The tar of a number.
        store: The store that has them, as this process has opened it.

    Raises:
        ConfigError: The folder cannot be written.
    """

    def __init__(
        self,
        cache: Cache,
        name: str,
        num_tars: int,
        tar: Callable[[int], WholeTar],
        store: Callable[[], Store],
    ) -> None:
        self._max_bytes = cache.max_bytes
        self._root = cache.folder / "synth-tars"
        self._folder = self._root / name
        self._num_tars = num_tars
        self._tar = tar
        self._store = store
        self._process = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._root / LOCK), locked_if_free(self._folder / LOCK):
                pass
        except OSError as exc:
            raise ConfigError(
                f"data.cache_dir {cache.folder}: cannot be written ({exc.strerror}); give a folder "
                "of a disk of this machine, or leave it out"
            ) from exc

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": 0}  # another process takes a lock of its own

    def read(self, number: int, offset: int, length: int) -> bytes | None:
        """A part of a tar; None if the tar is not here, and will be fetched in time."""
        if self._process != os.getpid():  # threads do not survive a fork
            self._begin()  # two threads may do so at the same time, which harms nothing
        try:
            with self._place(number).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), length, offset)
        except OSError:
            return None
        if len(data) != length:
            self.forget(number)  # it was cut after it had been checked
            return None
        return data

    def forget(self, number: int) -> None:
        """Remove a tar that turned out to be damaged."""
        self._place(number).unlink(missing_ok=True)

    def _place(self, number: int) -> Path:
        return self._folder / f"{number:06d}.tar"

    def _begin(self) -> None:
        """Say that this process uses the tars, and let a thread fetch what is not here."""
        self._process = os.getpid()
        try:
            lock = os.open(self._folder / LOCK, os.O_WRONLY | os.O_CREAT)
            weakref.finalize(self, os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(self._folder / LOCK)
        except OSError as exc:
            _log.warning("%s: tars are not kept (%s)", self._folder, one_line(exc))
            return
        threading.Thread(target=self.fetch, daemon=True, name="tar cache").start()

    def fetch(self) -> None:
        """Fetch tars until all are here or there is no more room; others may fetch meanwhile.

        What goes wrong ends it with a warning: training reads by ranges then.
        """
        try:
            while True:
                # All of them, also behind one that another process is at.
                are_fetched = [self._fetch_share(share) for share in range(TARS_AT_ONCE)]
                if all(are_fetched):
                    break
                time.sleep(PAUSE_S)
        except _NoRoomError:
            _log.info("%s: is full; other tars are read from the storage", self._root)
        except (SynthError, OSError) as exc:
            reason = one_line(exc)
            _log.warning("%s: no more tars are kept, but read anew (%s)", self._folder, reason)

    def _fetch_share(self, share: int) -> bool:
        """Fetch every fourth tar, beginning with one of the first four.

        Returns:
            False if somebody else is at it.
        """
        with locked_if_free(self._folder / f"fetching-{share}") as is_free:
            if not is_free:
                return False
            for number in range(share, self._num_tars, TARS_AT_ONCE):
                place = self._place(number)
                # What a process left here that was killed.
                place.with_name(f"{TEMPORARY_PREFIX}{place.name}").unlink(missing_ok=True)
                if not place.exists():
                    self._fetch(number)
            return True

    def _fetch(self, number: int) -> None:
        tar = self._tar(number)
        try:
            with whole_file(self._place(number)) as file:
                self._reserve(file, tar.num_bytes)
                reread(lambda: self._copy(tar, file))
        except FileNotFoundError as exc:
            _log.warning("%s: is not kept (%s)", self._store().at(tar.path), one_line(exc))
        except CorruptError as exc:
            _log.warning("%s", exc)  # the groups of it that are right can still be read

    def _reserve(self, file: BinaryIO, num_bytes: int) -> None:
        """Give a file its size, which all count from then on. Raises _NoRoomError."""
        with locked(self._root / LOCK):
            taken = shrink(self._root, self._max_bytes - num_bytes, keep=self._folder)
            if taken + num_bytes > self._max_bytes:
                raise _NoRoomError
            free = shutil.disk_usage(self._root).free
            if free < num_bytes + SPARE_BYTES:
                raise OSError(f"{free:,} bytes of the disk are free, which others may need")
            file.truncate(num_bytes)

    def _copy(self, tar: WholeTar, file: BinaryIO) -> None:
        """Raises CorruptError if it is not what was sealed."""
        digest, num_bytes = sha256(), 0
        file.seek(0)
        with self._store().open(tar.path) as source:
            while num_bytes <= tar.num_bytes and (piece := source.read(PIECE_BYTES)):
                digest.update(piece)
                num_bytes += len(piece)
                if num_bytes <= tar.num_bytes:
                    file.write(piece)
        if num_bytes != tar.num_bytes or tar.sha256 not in ("", digest.hexdigest()):
            raise CorruptError(
                f"{self._store().at(tar.path)}: not the tar that was sealed, so it is not kept; "
                "run `synth verify`"
            )
