"""Copy a sealed set. Each file is hashed where it is read and where it was written, the seal last.

The copy itself is the only state: a file is there whole or not at all, so the same call continues
where a killed one stopped. Nothing is overwritten, and nothing is deleted but temporary files.
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from manifests.canonical import hash_stream
from manifests.errors import CorruptError
from manifests.layout import SEAL
from manifests.publish_plan import KEPT, MEND, Publication, SetFile
from manifests.storage import Store
from manifests.storage.errors import StoreError

NUM_WORKERS = 8
ATTEMPTS = 4
RETRY_AFTER_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A file that was read at the target and found right."""

    file: SetFile
    is_new: bool
    """False if it was there before."""


def publish(publication: Publication, *, num_workers: int = NUM_WORKERS) -> Iterator[Copied]:
    """Copy what is missing and hash what is there. Yields each file when it is done.

    If the source is not on this machine, each worker keeps one file in the temporary folder.

    Raises:
        CorruptError: A file of the source is not what the seal says; it is not copied. Or a file
            at the target is not; it is left as it is.
        StoreError: One of the storages refuses, or gives other bytes at every reading.
    """
    with (
        tempfile.TemporaryDirectory(prefix="synth-publish-") as scratch,
        ThreadPoolExecutor(num_workers) as pool,
    ):

        def copy(chain: Sequence[SetFile]) -> list[Copied]:
            return [_copy(publication, file, Path(scratch)) for file in chain]

        try:
            for stage in publication.stages:
                if stage is publication.stages[-1]:
                    _sweep(publication)
                for task in as_completed([pool.submit(copy, chain) for chain in stage]):
                    yield from task.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _sweep(publication: Publication) -> None:
    """Remove the temporary files of killed copies; a sealed target is left alone."""
    if SEAL not in publication.present:
        for folder in {file.path.rpartition("/")[0] for file in publication.files}:
            publication.target.sweep(folder)


def _copy(publication: Publication, file: SetFile, scratch: Path) -> Copied:
    target = publication.target
    if file.path in publication.present:
        with suppress(FileNotFoundError):  # removed since it was listed: copied again
            _require_right(file, target, lambda: _hash(target, file.path), KEPT)
            return Copied(file=file, is_new=False)
    with _content(publication.source, file, scratch) as content:
        for attempt in range(ATTEMPTS):
            target.create(file.path, content)
            # Whoever created it, it is read back: stores do not check from end to end what they
            # are sent, and "exists already" may be the answer to our own upload, sent twice.
            try:
                _require_right(file, target, lambda: _hash(target, file.path), KEPT)
            except FileNotFoundError:  # another writer held this name, and failed
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
    """Refuse a file that a store holds with other bytes, which two readings have to agree on.

    Args:
        read: Reads the file and gives its hash and size.
        advice: What to do about a wrong file.
    """
    first = read()
    if file.is_right(first):
        return
    # A bit may flip on the way, too. A right file must not be called wrong, because the
    # message about a wrong one says to remove it.
    second = read()
    if first != second and not file.is_right(second):
        raise StoreError(
            f"{store.at(file.path)}: gives other bytes at every reading; look at the network, the "
            "disk and the memory of this machine, and run the same command again"
        )
    file.require(store, second, advice)


@contextmanager
def _content(source: Store, file: SetFile, scratch: Path) -> Iterator[Path]:
    """A file of the source on this machine, after its hash was found right."""
    local = source.local_path(file.path)
    path = local or scratch / secrets.token_hex(8)
    try:
        try:
            _require_right(
                file,
                source,
                lambda: _hash(source, file.path) if local else _download(source, file.path, path),
                MEND,
            )
        except FileNotFoundError as exc:
            raise CorruptError(f"{source.at(file.path)}: is gone; {MEND}") from exc
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
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise StoreError(
            f"{folder}: {exc.strerror}; every worker keeps one file there while it copies it: free "
            "some space, set TMPDIR to a larger folder, or give fewer --workers"
        ) from exc
