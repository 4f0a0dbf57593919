"""Files of a run on their way to its store, while training goes on."""

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.storage import Store
from trainer.errors import CheckpointError

COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    path: str
    file: Path
    is_checkpoint: bool
    is_passing: bool
    """A checkpoint that a newer one makes superfluous."""


class Uploads:
    """Copies files into a store in the order in which they are given, in a thread of its own.

    Args:
        store: Of the run.
        before: Called before each upload; what it raises ends all of them.
        after: Called after each checkpoint.
    """

    def __init__(
        self, store: Store, *, before: Callable[[], None], after: Callable[[], None]
    ) -> None:
        self._store = store
        self._before, self._after = before, after
        self._waiting: deque[_Upload] = deque()
        self._is_busy = False
        self.failure: Exception | None = None
        """What ended the uploads."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def replace(self, path: str, file: Path) -> None:
        """Bring a file up to date that grows; its content is read when its turn has come."""
        upload = _Upload(path=path, file=file, is_checkpoint=False, is_passing=False)
        with self._changed:
            if upload not in self._waiting:
                self._add(upload)

    def create(self, path: str, file: Path, *, is_passing: bool) -> None:
        """Store a checkpoint, and remove its file afterwards.

        Passing ones that still wait for their turn are left out: a slow storage gets the newest.
        """
        with self._changed:
            for upload in [upload for upload in self._waiting if upload.is_passing]:
                self._waiting.remove(upload)
                upload.file.unlink(missing_ok=True)
            self._add(_Upload(path=path, file=file, is_checkpoint=True, is_passing=is_passing))

    def _add(self, upload: _Upload) -> None:
        self._waiting.append(upload)
        if self._thread is None:
            # A daemon: a second Ctrl-C ends the process although the storage does not answer.
            self._thread = threading.Thread(target=self._run, daemon=True, name="uploads")
            self._thread.start()
        self._changed.notify_all()

    def raise_failure(self) -> None:
        """Raise what ended the uploads, if something did."""
        if self.failure is not None:
            raise self.failure

    def wait(self, timeout_s: float) -> bool:
        """Whether everything is stored or has failed, at the latest after this time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.failure is not None or not (self._waiting or self._is_busy),
                timeout_s,
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                upload = self._waiting.popleft()
                self._is_busy = True
            failure: Exception | None = None
            try:
                self._before()
                self._store_one(upload)
            except Exception as exc:  # is raised in the thread that trains
                failure = exc
            with self._changed:
                self._is_busy = False
                self.failure = failure
                self._changed.notify_all()
            if failure is not None:
                return

    def _store_one(self, upload: _Upload) -> None:
        if not upload.is_checkpoint:
            self._store.replace(upload.path, upload.file)
            return
        if not self._store.create(upload.path, upload.file) and not self._holds(upload):
            raise CheckpointError(
                f"{self._store.at(upload.path)}: another training has written it; let one of them "
                "train in this run, or give another --out"
            )
        upload.file.unlink(missing_ok=True)
        self._after()

    def _holds(self, upload: _Upload) -> bool:
        """Whether the store has just this content: the answer to our upload may have been lost."""
        with self._store.open(upload.path) as stored, upload.file.open("rb") as own:
            return _sha256(stored) == _sha256(own)


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while piece := file.read(COPY_BYTES):
        digest.update(piece)
    return digest.hexdigest()
