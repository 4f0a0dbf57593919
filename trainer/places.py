"""Where a run lies: in a folder, or in a bucket with a working copy on this machine.

In a bucket a run has the same files under the same names. The working copy of the first rank has
what a resume needs; what is written there is stored beside the steps, metrics before the checkpoint
that they lead to, so that a resume finds all of them.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

from manifests.foundation.errors import SynthError
from manifests.foundation.files import local_path, whole_file
from manifests.foundation.scratch import scratch_errors, scratch_folder
from manifests.storage import Store, open_store
from trainer import checkpointing, lease, metrics, runs
from trainer.checkpointing import superseded
from trainer.config import Precision
from trainer.errors import CheckpointError, TrainerError
from trainer.lease import Lease
from trainer.uploads import COPY_BYTES, Uploads

if TYPE_CHECKING:  # what asks whether a run is at its end needs no torch
    from trainer.control import ControlChannel

METRICS_EVERY_S = 30.0
"""Metrics are stored so often, besides before each checkpoint."""
GRACE_S = 15.0
"""After an error, files that wait for the storage have so long."""


class Place(Protocol):
    """The place of a run, as its ranks use it."""

    name: str
    """For messages, without secrets."""
    folder: Path
    """On this machine: what is written there belongs to the run."""

    def is_at_its_end(self, identity: Mapping[str, Any], *, formats: Sequence[str]) -> bool:
        """Whether nothing is left to do; see `runs.is_at_its_end`. Called on all ranks."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Keep other trainings out while the block runs. Called on the first rank.

        Raises:
            CheckpointError: Another one is there.
        """
        ...

    def enter(
        self,
        identity: Mapping[str, Any],
        facts: Mapping[str, Any],
        *,
        exports: Sequence[str],
        fresh: bool,
    ) -> None:
        """Begin or resume the run; see `runs.enter_run`. Called on the first rank."""
        ...

    def share(self, control: "ControlChannel") -> None:
        """Let every rank find the newest checkpoint in its folder. Called on all ranks."""
        ...

    def metrics_written(self) -> None:
        """Metrics were written. Called on the first rank."""
        ...

    def checkpoint_written(self, *, keep: int, keep_every: int | None) -> None:
        """A checkpoint was written; see `save_checkpoint`. Called on the first rank."""
        ...

    def finish(self, control: "ControlChannel", *, exports: Sequence[str] = ()) -> None:
        """Return when all that was written is where it belongs. Called on all ranks.

        Args:
            control: Between the ranks; the first one may take minutes.
            exports: Names of the files and folders that were exported.
        """
        ...


@contextmanager
def open_place(out: str | Path) -> Iterator[Place]:
    """The place that a user gave as `--out`.

    Raises:
        ConfigError: It is neither a path nor a URL in which a run can be written.
    """
    if isinstance(out, Path) or not is_remote(out):
        folder = local_path(str(out), option="--out")
        with runs.writing(folder):
            yield FolderPlace(folder)
        return
    store = open_store(out)
    store.require_creatable()
    with scratch_folder() as scratch, _named(scratch / "run", store.url):
        yield StorePlace(store, scratch / "run")


def is_remote(text: str) -> bool:
    """Whether a user gave a URL in place of a path."""
    return "://" in text


class FolderPlace:
    """A folder, which all ranks share. See `Place`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def is_at_its_end(self, identity: Mapping[str, Any], *, formats: Sequence[str]) -> bool:
        """See `Place`."""
        stored, name = runs.sizes(self.folder), self.name
        return runs.is_at_its_end(self.folder, identity, formats=formats, stored=stored, name=name)

    def held(self) -> AbstractContextManager[None]:
        """See `Place`."""
        return runs.locked(self.folder)

    def enter(
        self,
        identity: Mapping[str, Any],
        facts: Mapping[str, Any],
        *,
        exports: Sequence[str],
        fresh: bool,
    ) -> None:
        """See `Place`."""
        runs.enter_run(self.folder, identity, facts, exports=exports, fresh=fresh)

    def share(self, control: "ControlChannel") -> None:
        """See `Place`."""

    def metrics_written(self) -> None:
        """See `Place`."""

    def checkpoint_written(self, *, keep: int, keep_every: int | None) -> None:
        """See `Place`."""

    def finish(self, control: "ControlChannel", *, exports: Sequence[str] = ()) -> None:
        """See `Place`."""


class StorePlace:
    """A bucket, and a folder for each rank. See `Place`."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.folder = folder
        self.name = store.url
        self._store = store
        self._lease = Lease(store)
        self._uploads = Uploads(store, before=self._lease.require, after=self._retire)
        self._keep: tuple[int, int | None] = 1, None
        self._last_saved = ""
        self._metrics_stored_at = time.monotonic()
        folder.mkdir()

    def is_at_its_end(self, identity: Mapping[str, Any], *, formats: Sequence[str]) -> bool:
        """See `Place`."""
        stored, name = self._store.list(), self.name
        if runs.FILE in stored:
            fetch(self._store, runs.FILE, self.folder / runs.FILE)
            for folder in (checkpointing.FOLDER, *runs.exported_folders(self.folder)):
                stored |= self._store.list(folder)
        return runs.is_at_its_end(self.folder, identity, formats=formats, stored=stored, name=name)

    @contextmanager
    def held(self) -> Iterator[None]:
        """See `Place`."""
        self._lease.acquire()
        try:
            yield
        finally:
            self._uploads.wait(GRACE_S)  # what waits when an error ends the run
            self._lease.release()

    def enter(
        self,
        identity: Mapping[str, Any],
        facts: Mapping[str, Any],
        *,
        exports: Sequence[str],
        fresh: bool,
    ) -> None:
        """See `Place`."""
        names = [name for name in self._store.names() if name != lease.FOLDER]
        if runs.FILE in names:
            for name in (runs.FILE, metrics.FILE):
                if name in names:
                    fetch(self._store, name, self.folder / name)
            if not fresh and (stored := _checkpoints(self._store)):
                fetch(self._store, stored[-1], self.folder / stored[-1])
                # It is there, and a run that stops before its next step saves it once more.
                self._last_saved = Path(stored[-1]).name
        elif names:
            raise CheckpointError(
                f"{self.name}: holds {names[0]} but no {runs.FILE}; give an empty place as --out"
            )
        was_run = runs.FILE in names
        runs.enter_run(self.folder, identity, facts, exports=exports, fresh=fresh)
        if fresh and was_run:
            self._clear(names, exports)
        self._store.replace(runs.FILE, self.folder / runs.FILE)

    def _clear(self, names: Sequence[str], exports: Sequence[str]) -> None:
        """Remove what runs write, `run.json` last; see `runs.enter_run`."""
        files = self._store.list()
        for name in (*runs.OWN_FOLDERS, metrics.FILE, *exports, runs.FILE):
            if name in names:
                for path in [name] if name in files else self._store.list(name):
                    self._store.delete(path)

    def share(self, control: "ControlChannel") -> None:
        """See `Place`."""
        own = [path.name for path in checkpointing.checkpoints(self.folder)][-1:]
        newest = control.gather([own])[0]  # the others have none yet
        if newest and control.rank:
            path = f"{checkpointing.FOLDER}/{newest[0]}"
            fetch(self._store, path, self.folder / path)

    def metrics_written(self) -> None:
        """See `Place`."""
        self._uploads.raise_failure()
        if time.monotonic() - self._metrics_stored_at > METRICS_EVERY_S:
            self._store_numbers()

    def checkpoint_written(self, *, keep: int, keep_every: int | None) -> None:
        """See `Place`."""
        self._uploads.raise_failure()
        self._keep = keep, keep_every
        self._store_numbers()
        newest = checkpointing.checkpoints(self.folder)[-1]
        if newest.name == self._last_saved:  # a run that is stopped just after a checkpoint
            newest.unlink()
            return
        self._last_saved = newest.name
        # Moved, so that no later checkpoint removes it before it is stored.
        waiting = self.folder / "waiting" / newest.name
        waiting.parent.mkdir(exist_ok=True)
        os.replace(newest, waiting)
        is_passing = keep_every is None or checkpointing.step_of(newest) % keep_every != 0
        path = f"{checkpointing.FOLDER}/{newest.name}"
        self._uploads.create(path, waiting, is_passing=is_passing)

    def _store_numbers(self) -> None:
        self._metrics_stored_at = time.monotonic()
        events = sorted((self.folder / metrics.BOARD).glob("events.*"))
        for file in (self.folder / metrics.FILE, *events):
            if file.exists():
                self._uploads.replace(file.relative_to(self.folder).as_posix(), file)

    def _retire(self) -> None:
        """Remove checkpoints that need not stay."""
        stored = [Path(path) for path in _checkpoints(self._store)]
        keep, keep_every = self._keep
        for path in superseded(stored, keep=keep, keep_every=keep_every):
            self._store.delete(path.as_posix())

    def finish(self, control: "ControlChannel", *, exports: Sequence[str] = ()) -> None:
        """See `Place`."""
        if not control.rank:
            self._store_numbers()
            # A description holds the hash of the weights beside it, so it is stored after them.
            files = [file for name in exports for file in _files(self.folder / name)]
            for file in sorted(files, key=lambda file: (file.suffix == ".json", file)):
                self._uploads.replace(file.relative_to(self.folder).as_posix(), file)
        is_stored = False
        while not is_stored:
            is_own = bool(control.rank) or self._uploads.wait(1.0)
            # Asked again and again, so that no rank is taken for lost while the first one stores.
            is_stored = not control.sum(int(not is_own))[0]
        failure = self._uploads.failure
        if control.sum(int(failure is not None))[0]:
            raise failure or TrainerError(f"{self.name}: could not be written; see rank 0")


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []


def _checkpoints(store: Store) -> list[str]:
    """Paths of the checkpoints in a store, oldest first."""
    return sorted(path for path in store.list(checkpointing.FOLDER) if path.endswith(".pt"))


def fetch(store: Store, path: str, file: Path) -> None:
    """Copy a file of a store into a folder, which is made if it is not there.

    Raises:
        FileNotFoundError: There is no such file.
        StoreError: The storage refuses.
    """
    with store.open(path) as source, scratch_errors():
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as target:
            while piece := source.read(COPY_BYTES):
                target.write(piece)


@contextmanager
def run_files(place: str, *, option: str, only: str | None = None) -> Iterator[Path]:
    """A run or a file in one, on this machine while the block runs: what lies elsewhere is fetched.

    Args:
        place: A path, or the URL of a run, of its encoder.safetensors or of one of its checkpoints.
        option: Option that it was given for, for messages.
        only: Name of the file that is enough; None for all that the run keeps beside its metrics.

    Raises:
        ConfigError: It is neither a path nor a URL.
        CheckpointError: No run lies there.
        StoreError: The storage refuses.
    """
    if not is_remote(place):
        yield local_path(place, option=option)
        return
    parts = place.rstrip("/").split("/")
    depth = {".pt": 2, ".safetensors": 1}.get(Path(parts[-1]).suffix, 0)
    url, inside = "/".join(parts[: len(parts) - depth]), "/".join(parts[len(parts) - depth :])
    store = open_store(url)
    with scratch_folder() as scratch, _named(scratch, store.url):
        paths = [path for path in store.list() if path != metrics.FILE]
        if not paths:
            raise CheckpointError(f"{store.url}: no run here; give the --out of a run")
        for path in paths:
            if only in (None, path):
                fetch(store, path, scratch / path)
        if inside and inside not in paths:
            if not store.exists(inside):
                raise CheckpointError(f"{store.at(inside)}: no such file in the run")
            if only is None:
                fetch(store, inside, scratch / inside)
        yield scratch / inside


def recorded_precision(out: str) -> Precision | None:
    """The precision of the run that is at a place; None if none there has taken steps and says it.

    Before its first checkpoint a run has learned nothing, and another machine may choose anew.
    """
    try:
        with run_files(out, option="--out", only=runs.FILE) as folder:
            run = runs.read_run(folder)["identity"].get("run")
        if not open_store(out).list(checkpointing.FOLDER):
            return None
    except SynthError:  # what is wrong with the place is said when the run is entered
        return None
    recorded = run.get("precision") if isinstance(run, dict) else None
    return next((known for known in get_args(Precision) if known == recorded), None)


@contextmanager
def _named(folder: Path, name: str) -> Iterator[None]:
    """Let errors name the place of a run, and not the working copy, which is gone afterwards."""
    try:
        yield
    except SynthError as exc:
        if str(folder) not in str(exc):
            raise
        raise type(exc)(str(exc).replace(str(folder), name)) from exc
    except OSError as exc:
        path = Path(os.fsdecode(exc.filename2 or exc.filename or ""))
        if folder not in (path, *path.parents):
            raise
        with scratch_errors():
            raise
