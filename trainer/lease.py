"""One training at a time in a run that lies in a bucket.

A bucket has no lock that ends with its process. So the training that holds a run says again and
again that it lives, and one of which nothing was heard for a while is taken for dead. Each holder
has a number of its own, which only one training can take; a holder that finds a higher one ends.
"""

import json
import logging
import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from manifests.foundation.errors import SynthError
from manifests.storage import Store
from trainer.errors import CheckpointError

FOLDER = "lock"
MAX_BYTES = 1 << 16
BEAT_S = 10.0
"""The holder of a run says so often that it lives."""
SILENCE_S = 60.0
"""A holder of which nothing was heard for so long is taken for dead."""
PATIENCE_S = 12.0
"""So long a holder that lives is waited for: it may be about to end."""

_log = logging.getLogger(__name__)


class Lease:
    """The right to write into a run.

    Args:
        store: Of the run.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._number = 0
        self._beats = 0
        self._token = secrets.token_hex(16)
        self._is_over = threading.Event()
        self._taken_by: str | None = None
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the right, as soon as the one who has it has ended or is dead.

        Raises:
            CheckpointError: Another training holds the run, and lives.
            StoreError: The storage refuses.
        """
        start, heard, last = time.monotonic(), time.monotonic(), None
        while True:
            number, holder = self._newest()
            if holder is not None and not _has_ended(holder):
                now = time.monotonic()
                if last is None:
                    _log.warning(
                        "%s: %s holds it; taken over unless it is heard of within %.0f s",
                        self._store.url, _named(holder), SILENCE_S,
                    )  # fmt: skip
                elif holder != last:
                    heard = now
                    if now - start > PATIENCE_S:
                        raise CheckpointError(
                            f"{self._store.url}: {_named(holder)} is training in it; wait for it "
                            "or stop it, or give another --out"
                        )
                last = holder
                if now - heard < SILENCE_S:
                    time.sleep(min(1.0, BEAT_S / 4))
                    continue
            if self._take(number + 1):
                break
        for path in self._store.list(FOLDER):
            if _number(path) < self._number:
                self._store.delete(path)
        # A daemon, so that it does not outlive a process that ends without `release`.
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")
        self._thread.start()

    def require(self) -> None:
        """Refuse to go on if another training has taken the run. Raises CheckpointError."""
        if self._taken_by is not None:
            raise CheckpointError(
                f"{self._store.url}: was taken over by {self._taken_by}, because nothing was heard "
                f"of this training for {SILENCE_S:.0f} s; let one of them train in it"
            )

    def release(self) -> None:
        """Give the right back, so that the next training need not wait."""
        self._is_over.set()
        # A storage that does not answer is not waited for: then the next training has to wait.
        last = threading.Thread(target=self._say_over, daemon=True, name="lease")
        last.start()
        last.join(BEAT_S)

    def _say_over(self) -> None:
        if self._thread is None:
            return
        self._thread.join()
        if self._taken_by is None:
            with suppress(SynthError):
                self._store.replace(_path(self._number), self._document(is_over=True))

    def _take(self, number: int) -> bool:
        document = self._document()
        is_new = self._store.create(_path(number), document)
        # The answer to our own upload may have been lost.
        if is_new or self._store.read(_path(number), max_bytes=MAX_BYTES) == document:
            self._number = number
            return True
        return False

    def _beat(self) -> None:
        while not self._is_over.wait(BEAT_S):
            try:
                number, holder = self._newest()
                if number > self._number:
                    self._taken_by = _named(holder or {})
                    return
                self._beats += 1
                self._store.replace(_path(self._number), self._document())
            except SynthError as exc:  # the storage has been asked for minutes; it may come back
                _log.warning("%s", exc)

    def _newest(self) -> tuple[int, dict[str, Any] | None]:
        """Number and facts of the newest holder; 0 and None without one."""
        paths = list(self._store.list(FOLDER))
        number = max(map(_number, paths), default=0)
        if not number:
            return 0, None
        try:
            holder = json.loads(self._store.read(_path(number), max_bytes=MAX_BYTES))
        except (FileNotFoundError, ValueError, RecursionError):  # removed a moment ago, or damaged
            return number, None
        return number, holder if isinstance(holder, dict) else None

    def _document(self, *, is_over: bool = False) -> bytes:
        facts = {
            "host": platform.node(),
            "pid": os.getpid(),
            "process": _process(os.getpid()),
            "token": self._token,
            "beats": self._beats,
            "is_over": is_over,
        }
        return json.dumps(facts).encode()


def _path(number: int) -> str:
    return f"{FOLDER}/{number:09d}.json"


def _number(path: str) -> int:
    stem = Path(path).stem
    return int(stem) if stem.isdecimal() else 0


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} of {holder.get('host', '?')}"


def _has_ended(holder: dict[str, Any]) -> bool:
    """Whether a holder has said that it ended, or was a process of this machine that is gone."""
    if holder.get("is_over"):
        return True
    process, pid = holder.get("process"), holder.get("pid")
    own = _process(os.getpid())
    if not own or not isinstance(process, list) or process[:2] != own[:2]:
        return False
    return isinstance(pid, int) and _process(pid) != process


def _process(pid: int) -> list[str]:
    """What a process is, and no other one ever: boot, namespace of its number, number, start.

    Empty if there is no such process, or where the system does not say.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return []
    return [] if fields[0] == "Z" else [boot, namespace, str(pid), fields[19]]
