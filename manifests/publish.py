"""Copy a sealed set. Each file is hashed when it is read and again after it was written.

There is no state besides the copy: a file is at the target whole or not at all, so the same call
continues where a killed one stopped. The seal is written last. Nothing is overwritten, and nothing
is deleted but temporary files.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from manifests.canonical import hash_stream
from manifests.errors import CorruptError
from manifests.foundation.scratch import scratch_folder
from manifests.foundation.threads import in_threads
from manifests.layout import SEAL
from manifests.publish_plan import SOURCE_ADVICE, TARGET_ADVICE, Publication, SetFile
from manifests.storage import Store
from manifests.storage.errors import StoreError

NUM_WORKERS = 8
ATTEMPTS = 4
RETRY_AFTER_S = 0.5
"""Wait after the first attempt; doubled after each further one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A file of the copy that was read at the target and has the right hash."""

    file: SetFile
    is_new: bool
    """False if the file was at the target before this call."""


def publish(publication: Publication, *, num_workers: int = NUM_WORKERS) -> Iterator[Copied]:
    """Copy the files that the target lacks, and check by their hashes those that it has.

    If the source is not on this machine, each worker keeps one file in the temporary folder.

    Yields:
        Each file of the copy, when it is at the target and was checked.

    Raises:
        CorruptError: A file of the source does not have the hash that the seal says, and is not
            copied; or a file at the target does not, and is left as it is.
        StoreError: One of the storages refuses, or gives other bytes at every reading.
    """
    with scratch_folder() as scratch:

        def copy(chain: Sequence[SetFile]) -> list[Copied]:
            return [_copy(publication, file, scratch) for file in chain]

        for stage in publication.stages:
            if stage is publication.stages[-1]:
                _sweep(publication)  # before the seal: nothing is touched in a sealed copy
            # Closed here, because its threads use the scratch folder.
            with closing(in_threads(copy, stage, num_threads=num_workers, name="copy")) as copies:
                for copied in copies:
                    yield from copied


def _sweep(publication: Publication) -> None:
    """Remove the temporary files of killed copies; a sealed target is left alone."""
    if SEAL not in publication.present:
        for folder in {file.path.rpartition("/")[0] for file in publication.files}:
            publication.target.sweep(folder)


def _copy(publication: Publication, file: SetFile, scratch: Path) -> Copied:
    target = publication.target
    if file.path in publication.present:
        with suppress(FileNotFoundError):  # removed since it was listed, so it is copied below
            _require_right(file, target, lambda: _hash(target, file.path), TARGET_ADVICE)
            return Copied(file=file, is_new=False)
    with _content(publication.source, file, scratch) as content:
        for attempt in range(ATTEMPTS):
            target.create(file.path, content)
            # The file is read back, whoever created it. Stores do not check from end to end what
            # they are sent, and "exists already" may be the answer to our own upload, sent twice.
            try:
                _require_right(file, target, lambda: _hash(target, file.path), TARGET_ADVICE)
            except FileNotFoundError:  # refused in favour of another upload, which then failed
                time.sleep(RETRY_AFTER_S * 2**attempt)
            else:
                return Copied(file=file, is_new=True)
    raise StoreError(
        f"{target.at(file.path)}: the storage says that the file exists, yet it cannot be read; "
        "look at the storage and run the same command again"
    )


def _require_right(
    file: SetFile, store: Store, read: Callable[[], tuple[str, int]], advice: str
) -> None:
    """Refuse a file of a store if two readings agree that its bytes are wrong.

    Args:
        read: Reads the file and returns its hash and its size in bytes.
        advice: What to do about a wrong file, for the message.

    Raises:
        CorruptError: The file has another hash or size than the seal says.
        StoreError: Both readings are wrong and they differ from each other.
    """
    first = read()
    if file.is_right(first):
        return
    # A bit may have flipped on the way and not in the file. A file that is right must not be
    # called wrong, because the message about a wrong one says to remove it.
    second = read()
    if first != second and not file.is_right(second):
        raise StoreError(
            f"{store.at(file.path)}: gives other bytes at every reading; look at the network, the "
            "disk and the memory of this machine, and run the same command again"
        )
    file.require(store, second, advice)


@contextmanager
def _content(source: Store, file: SetFile, scratch: Path) -> Iterator[Path]:
    """Path of a file of the source on this machine, checked by its hash; a download if need be."""
    local = source.local_path(file.path)
    path = local or scratch / secrets.token_hex(8)
    try:
        try:
            _require_right(
                file,
                source,
                lambda: _hash(source, file.path) if local else _download(source, file.path, path),
                SOURCE_ADVICE,
            )
        except FileNotFoundError as exc:
            raise CorruptError(f"{source.at(file.path)}: is gone; {SOURCE_ADVICE}") from exc
        yield path
    finally:
        if local is None:
            path.unlink(missing_ok=True)


def _hash(store: Store, path: str) -> tuple[str, int]:
    with store.open(path) as file:
        return hash_stream(file)


def _download(store: Store, path: str, to: Path) -> tuple[str, int]:
    def keep(piece: bytes) -> None:
        with _scratch_errors(to.parent):
            copy.write(piece)

    with _scratch_errors(to.parent), to.open("wb") as copy, store.open(path) as file:
        return hash_stream(file, keep)


@contextmanager
def _scratch_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the temporary folder into one line that says how to make room in it."""
    try:
        yield
    except FileNotFoundError:  # of the source, since the folder exists
        raise
    except OSError as exc:
        raise StoreError(
            f"{folder}: {exc.strerror}; every worker keeps one file there while it copies it: free "
            "some space, set TMPDIR to a larger folder, or give fewer --workers"
        ) from exc
