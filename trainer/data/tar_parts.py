"""How ranks share tars without manifests: whole ones, or parts where there are fewer than ranks.

A part is a run of whole groups of files, from byte to byte. Where groups begin is known from the
headers of a tar, between which nothing is read of a file of this machine. Of a bucket everything
is, because a call costs more than the bytes between two headers. One process of a machine does
that, and the machine remembers it.
"""

import io
import logging
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from manifests.foundation.errors import SynthError
from manifests.foundation.messages import counted
from manifests.storage import Store
from trainer.data.foreign_tars import (
    MAX_MEMBER_BYTES,
    READ_BYTES,
    Content,
    comes_twice,
    read_groups,
)
from trainer.data.index_cache import Arrays, mapped, name_of_tars
from trainer.errors import DataError

_log = logging.getLogger(__name__)

LOCAL_READ_BYTES = 4 << 10
"""Read at once of a file of this machine: some headers, and the labels between them."""
_META = re.compile(r"__[^/]*__($|/)")
"""Names that webdataset leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TarPart:
    """Whole groups of files that follow each other in one tar."""

    number: int
    """Of the tar among all."""
    path: str
    begin: int = 0
    """First byte."""
    end: int | None = None
    """Byte after the last one; None is the end of the tar."""
    num_bytes: int
    first_group: int = 0
    """Number of the first group in the tar."""
    num_groups: int | None = None
    """None if nobody knows before they are read."""


def parts_of_rank(store: Store, tars: Sequence[str], *, rank: int, world: int) -> list[TarPart]:
    """What a rank reads, in the order of the tars: over all ranks each group of files once.

    Raises:
        DataError: A key comes twice in a tar.
        StoreError: The storage cannot be read.
    """
    folders = {path.rpartition("/")[0] for path in tars}
    listed = {path: size for folder in folders for path, size in store.list(folder).items()}
    sizes = {path: listed.get(path, 0) for path in tars}
    if len(tars) >= world:
        return [
            TarPart(number=number, path=tars[number], num_bytes=sizes[tars[number]])
            for number in range(rank, len(tars), world)
        ]
    starts = _starts(store, sizes)
    # A tar without groups counts as one, so that somebody reads it and says what is wrong with it.
    counts = [max(len(of_tar), 1) for of_tar in starts]
    total, before = sum(counts), 0
    low, high = total * rank // world, total * (rank + 1) // world
    parts = []
    for number, (path, of_tar, count) in enumerate(zip(tars, starts, counts, strict=True)):
        first, last = max(low - before, 0), min(high - before, count)
        before += count
        if first < last:
            begin = int(of_tar[first]) if first else 0
            end = int(of_tar[last]) if last < count else None
            parts.append(
                TarPart(
                    number=number,
                    path=path,
                    begin=begin,
                    end=end,
                    num_bytes=(sizes[path] if end is None else end) - begin,
                    first_group=first,
                    num_groups=last - first if len(of_tar) else 0,
                )
            )
    return parts


def read_part(
    store: Store, part: TarPart, *, on_bytes: Callable[[int], None]
) -> Iterator[tuple[int, str, dict[str, Content]]]:
    """Number in the tar, key, and members by suffix of each group of files. See `read_groups`.

    Raises:
        DataError: As `read_groups` raises it, or there are other groups than there were.
        StoreError: The storage cannot be read.
    """
    count = 0
    groups = read_groups(store, part.path, begin=part.begin, end=part.end, on_bytes=on_bytes)
    for count, (key, members) in enumerate(groups, 1):
        yield part.first_group + count - 1, key, members
    if part.num_groups not in (None, count):
        raise DataError(
            f"{store.at(part.path)}: {counted(count, 'group')} of files from byte {part.begin:,} "
            f"on, there were {part.num_groups}; if all tars were made anew, remove the cache "
            "synth/index"
        )


_STARTS: dict[str, Sequence[NDArray[np.int64]]] = {}
"""What this process knows, by name: it need not be able to write a cache."""


def _starts(store: Store, sizes: Mapping[str, int]) -> Sequence[NDArray[np.int64]]:
    """Of each tar, the bytes where its groups of files begin."""
    name = name_of_tars(store, sizes, "starts of groups")
    if name not in _STARTS:
        arrays = mapped(name, partial(_read_starts, store, sizes))
        _STARTS[name] = np.split(arrays["starts"], np.cumsum(arrays["counts"])[:-1])
    return _STARTS[name]


def _read_starts(store: Store, sizes: Mapping[str, int]) -> Arrays:
    parts = [np.array(group_starts(store, *tar), dtype=np.int64) for tar in sizes.items()]
    return {
        "starts": np.concatenate(parts),
        "counts": np.array([len(part) for part in parts], dtype=np.int64),
    }


def group_starts(store: Store, path: str, size: int) -> list[int]:
    """The bytes of a tar where a group of files begins, as webdataset makes groups.

    A tar that is broken has those before its fault, which is met by whoever reads the last of them.

    Raises:
        DataError: A key comes twice.
        StoreError: The storage cannot be read.
    """
    from webdataset.tariterators import base_plus_ext

    file = _Seekable(store, path, size)
    keys: set[str] = set()
    starts: list[int] = []
    current = None
    at_once = LOCAL_READ_BYTES if store.local_path(path) else READ_BYTES
    try:
        with tarfile.open(fileobj=io.BufferedReader(file, at_once), mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]
                key, _ = base_plus_ext(member.name)
                if not member.isreg() or _META.match(member.name) or key in (None, current):
                    continue
                if key in keys:
                    raise comes_twice(store.at(path), key)
                keys.add(key)
                current = key
                starts.append(member.offset)
    except SynthError:
        raise
    except Exception as exc:  # tarfile raises whatever it likes on broken bytes
        _log.debug("%s: %s", store.at(path), exc)
    return starts


class _Seekable(io.RawIOBase):
    """A file of a store that tarfile walks over."""

    def __init__(self, store: Store, path: str, size: int) -> None:
        self._store, self._path, self._size = store, path, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if len(buffer) > MAX_MEMBER_BYTES:
            raise DataError(f"{self._store.at(self._path)}: a header of {len(buffer):,} bytes")
        length = min(len(buffer), max(self._size - self._position, 0))
        data = self._store.read_range(self._path, self._position, length) if length else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
