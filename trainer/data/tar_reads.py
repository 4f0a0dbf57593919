"""Parts of the tars of a source, from this machine where it keeps them, else from the storage."""

from collections.abc import Callable
from functools import partial

from manifests.storage import Store
from trainer.data.second_reads import SecondReads
from trainer.data.tar_cache import TarCache

READS_AT_ONCE = 16
"""Groups that a loader process reads from a bucket at once."""


class TarReads:
    """Several threads may read at once.

    Args:
        store: The store that has the tars, as this process has opened it.
    """

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._seconds = SecondReads()
        self.cache: TarCache | None = None

    @property
    def at_once(self) -> int:
        """Reads that are worth making at the same time; 1 where nobody waits for a network."""
        return 1 if self._store().local_path("") else READS_AT_ONCE

    def read(self, number: int, path: str, offset: int, length: int) -> bytes:
        """A part of a tar.

        Args:
            number: Of the tar in its source.
            path: Of the tar in the store.

        Raises:
            FileNotFoundError: There is no such tar.
        """
        kept = self.cache.read(number, offset, length) if self.cache else None
        if kept is not None:
            return kept
        read = partial(self._store().read_range, path, offset, length)
        return read() if self.at_once == 1 else self._seconds.read(read)

    def forget(self, number: int) -> None:
        """Read a tar from the storage from now on: what this machine keeps of it is damaged."""
        if self.cache:
            self.cache.forget(number)
