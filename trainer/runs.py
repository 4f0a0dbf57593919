"""The run folder: records recipe and surroundings, and refuses to resume under another recipe."""

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manifests.foundation.differences import differing_keys
from manifests.foundation.files import TEMPORARY_PREFIX, read_regular, write_whole
from manifests.foundation.messages import one_line
from trainer import checkpointing, metrics
from trainer.errors import CheckpointError

FILE = "run.json"
EXPORTED = "exported"
"""Key of `run.json` that only a run at its end has: the formats, and the size of each file."""
SCORES = "scores"
MAX_BYTES = 64 << 20
"""Largest `run.json` that is read."""

_log = logging.getLogger(__name__)

_RESTORE = "restore it from a copy, or remove the folder to start over"

LOCK_WAIT_S = 12.0
"""The loader processes of a training that was killed hold its lock for a few seconds more."""

OWN_FOLDERS = (checkpointing.FOLDER, metrics.BOARD, SCORES)
"""Folders that every run may have."""


def enter_run(
    run: Path,
    identity: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    exports: Sequence[str],
    fresh: bool,
) -> None:
    """Begin a run, or resume the one that is in the folder.

    Args:
        run: The folder; it is made if it is not there.
        identity: Everything that decides what is learned, as JSON; see `Plan.identity`.
        facts: What is recorded about this start, but may differ when the run is resumed.
        exports: Names of the files and folders that the run will export.
        fresh: Remove what an earlier run left here first.

    Raises:
        CheckpointError: The folder holds something else, or a run with another identity; the
            message names the keys that differ.
    """
    path = run / FILE
    was_run = path.exists()
    for name in OWN_FOLDERS:
        if os.path.lexists(run / name) and not (run / name).is_dir():
            raise CheckpointError(f"{run / name}: is no folder, and a run needs one; remove it")
    if fresh and was_run:
        read_run(run)  # removes nothing from a folder that is not a run
        _remove(run, exports)
    session = {**facts, "started": datetime.now(UTC).isoformat(timespec="seconds")}
    if not path.exists():
        if run.exists() and not run.is_dir():
            raise CheckpointError(f"{run}: is a file; give an empty folder as --out")
        names = [path.name for path in run.iterdir()] if run.exists() else []
        foreign = sorted(name for name in names if not name.startswith(TEMPORARY_PREFIX))
        if foreign and not was_run:  # beside a run, --fresh leaves files that are not its own
            raise CheckpointError(
                f"{run}: holds {foreign[0]} but no {FILE}; give an empty folder as --out"
            )
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise CheckpointError(f"{run}: cannot be made ({exc.strerror}); choose --out") from exc
        _write(path, {"identity": identity, "sessions": [session]})
        return
    document = read_run(run)
    if checkpointing.checkpoints(run):
        require_equal(document["identity"], identity, run=str(run))
    else:  # nothing is learned yet, so the recipe may still change
        document["identity"] = identity
    document.pop(EXPORTED, None)  # true again when this start has come to its end
    document["sessions"].append(session)
    _write(path, document)


def require_equal(begun: Mapping[str, Any], identity: Mapping[str, Any], *, run: str) -> None:
    """Refuse to go on with what was begun under another identity.

    Raises:
        CheckpointError: The message names the keys that differ.
    """
    if keys := _differing(begun, identity, run=run):
        raise CheckpointError(
            f"{run}: was begun with another recipe or set; these differ: {', '.join(keys)}. Give "
            "the old values, another --out, or --fresh to start over"
        )


def _differing(begun: Mapping[str, Any], identity: Mapping[str, Any], *, run: str) -> list[str]:
    try:
        return differing_keys(begun, identity)
    except RecursionError as exc:
        raise CheckpointError(f"{run}/{FILE}: is nested too deep; {_RESTORE}") from exc


def record_exports(run: Path, formats: Sequence[str], paths: Sequence[str]) -> None:
    """Write into `run.json` that the run is at its end, and what it has left behind.

    Args:
        run: Folder of the run.
        formats: Names of the exports.
        paths: The files and folders that they write, as far as they are there.
    """
    written = sizes(run)
    files = {
        path: size
        for path, size in written.items()
        if any(path == name or path.startswith(f"{name}/") for name in paths)
    }
    document = read_run(run)
    _write(run / FILE, {**document, EXPORTED: {"formats": list(formats), "files": files}})


def is_at_its_end(
    run: Path,
    identity: Mapping[str, Any],
    *,
    formats: Sequence[str],
    stored: Mapping[str, int],
    name: str,
) -> bool:
    """Whether nothing is left to do for a run: it is asked without torch, before anything is made.

    Args:
        run: Folder with the `run.json` of the run.
        identity: What is to be learned; see `enter_run`.
        formats: Names of the exports that are wanted.
        stored: Size of each file that the run has, by its path in it.
        name: Of the run, for messages.

    Raises:
        CheckpointError: The run has another identity, or its `run.json` is damaged.
    """
    if FILE not in stored:
        return False
    document = read_run(run)
    if any(path.startswith(f"{checkpointing.FOLDER}/") for path in stored):
        require_equal(document["identity"], identity, run=name)
    elif _differing(document["identity"], identity, run=name):
        return False
    exported = document.get(EXPORTED)
    if not isinstance(exported, dict) or exported.get("formats") != list(formats):
        return False
    files = exported.get("files")
    return isinstance(files, dict) and all(stored.get(path) == files[path] for path in files)


def exported_folders(run: Path) -> set[str]:
    """Folders in a run in which files lie that it has exported, by its `run.json`."""
    exported = read_run(run).get(EXPORTED)
    files = exported.get("files") if isinstance(exported, dict) else None
    return {path.rpartition("/")[0] for path in files or () if "/" in path}


def sizes(run: Path) -> dict[str, int]:
    """Bytes of each file of a run, by its path in the folder."""
    return {
        path.relative_to(run).as_posix(): path.stat().st_size
        for path in run.rglob("*")
        if path.is_file() and not path.name.startswith(TEMPORARY_PREFIX)
    }


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other trainings out of the folder while the block runs.

    The lock is one of the file system, so it ends with its process, however that ends.

    Raises:
        CheckpointError: Another training writes into the folder.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        folder = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # `enter_run` says what is wrong with the folder
        yield
        return
    try:
        _lock(folder, run)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, run: Path) -> None:
    end, is_said = time.monotonic() + LOCK_WAIT_S, False
    while True:
        try:
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() > end:
                raise CheckpointError(
                    f"{run}: another process is training in it; wait for it or stop it, or give "
                    "another --out"
                ) from exc
            if not is_said:
                is_said = True
                _log.warning("%s: another process holds it; waiting %.0f s", run, LOCK_WAIT_S)
            time.sleep(0.2)
        except OSError:  # a file system that has no locks
            return None


@contextmanager
def writing(run: Path) -> Iterator[None]:
    """Report in one line what the file system refuses inside the folder of a run.

    Raises:
        CheckpointError: A full disk, a folder in the place of a file, and the like.
    """
    try:
        yield
    except OSError as exc:
        path = Path(os.fsdecode(exc.filename2 or exc.filename or ""))
        if run not in (path, *path.parents):
            raise
        raise CheckpointError(
            f"{path}: cannot be written ({exc.strerror}); mend it and run the same command again"
        ) from exc


def read_run(run: Path) -> dict[str, Any]:
    """The document `run.json` of a run. Raises CheckpointError if it is missing or damaged."""
    path = run / FILE
    try:
        document = json.loads(read_regular(path, max_bytes=MAX_BYTES))
        if isinstance(document["identity"], dict) and isinstance(document["sessions"], list):
            return dict(document)
    except FileNotFoundError as exc:
        raise CheckpointError(f"{run}: no run here (no {FILE}); give the --out of a run") from exc
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise CheckpointError(f"{path}: cannot be read ({one_line(exc)}); {_RESTORE}") from exc
    raise CheckpointError(f"{path}: not written by `synth train`; give another --out")


def _remove(run: Path, exports: Sequence[str]) -> None:
    """Remove what runs write; `run.json` last, so that a removal that is killed can be repeated."""
    for name in (*OWN_FOLDERS, metrics.FILE, *exports, FILE):
        if (run / name).is_dir():
            shutil.rmtree(run / name, ignore_errors=True)
        else:
            (run / name).unlink(missing_ok=True)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    write_whole(path, f"{json.dumps(document, indent=2)}\n".encode())
