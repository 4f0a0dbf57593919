"""Reads a file again that looks wrong: a bit may have flipped on the way and not in the file.

Object stores do not check from end to end what they send. A file that is right must not be called
wrong, because the message about a wrong one says to remove it.
"""

from collections.abc import Callable
from typing import TypeVar

from manifests.errors import CorruptError
from manifests.storage import Store
from manifests.storage.errors import StoreError

MAX_READINGS = 4

_Content = TypeVar("_Content")


def reread(read: Callable[[], _Content]) -> _Content:
    """Result of a reading that checks what it reads; of the second one if the first is refused.

    Raises:
        CorruptError: Both readings are refused.
    """
    try:
        return read()
    except CorruptError:
        return read()


def read_alike(store: Store, path: str) -> bytes:
    """Bytes of a file whose hash nobody has noted yet, as two readings agree on them.

    Raises:
        StoreError: No two readings agree.
    """
    readings = [store.read(path)]
    while len(readings) < MAX_READINGS:
        readings.append(store.read(path))
        if readings[-1] in readings[:-1]:
            return readings[-1]
    raise StoreError(
        f"{store.at(path)}: gives other bytes at every reading; look at the network and at the "
        "memory of this machine, and run the same command again"
    )
