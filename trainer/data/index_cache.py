"""Arrays of a large index on the disk of a machine, mapped into every process that wants them.

The ranks of a machine share one copy in memory, and a run that starts again reads nothing from the
storage. What is kept is named by the hash of its source; what was used longest ago makes room for
what is new.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.canonical import hash_json
from manifests.foundation.caches import LOCK, NO_CACHE, cache_folder, locked, shrink
from manifests.foundation.files import whole_file, write_whole
from manifests.storage import Store

Arrays = Mapping[str, NDArray[Any]]

MAX_BYTES = 20 << 30
"""Of all indexes that a machine keeps."""

_NAMES = "arrays.json"
"""Is written last, so arrays are whole where it is."""


def mapped(name: str, read: Callable[[], Arrays]) -> Arrays:
    """What `read` gives, from a file of this machine if it was read here before.

    Args:
        name: Different for different content.
        read: Called by one process of the machine at a time, and only if there is no file.
    """
    with ExitStack() as stack:
        try:
            folder = cache_folder("index") / name
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / LOCK))
        except NO_CACHE:
            return read()
        if (known := _mapped(folder)) is not None:
            return known
        arrays = read()
        with suppress(OSError):  # a full disk: it is only a cache
            for key, values in arrays.items():
                with whole_file(folder / f"{key}.npy") as file:
                    np.save(file, values, allow_pickle=False)
            write_whole(folder / _NAMES, json.dumps([*arrays]).encode())
            shrink(folder.parent, MAX_BYTES, keep=folder)
        return _mapped(folder) or arrays


def name_of_tars(store: Store, sizes: Mapping[str, int], what: str) -> str:
    """A name for something that is known of tars that no seal names.

    They count as the same ones while their address, names and sizes are the same, and of a folder
    of this machine the times of change. What is read by such an index has to be checked.

    Args:
        what: What is known, in which form: a name for each.
    """
    times = []
    for path in sizes:
        if (local := store.local_path(path)) is not None:
            with suppress(OSError):  # whoever reads it says that it is gone
                times.append(local.stat().st_mtime_ns)
    return hash_json([what, store.url, dict(sizes), times])


def _mapped(folder: Path) -> Arrays | None:
    """The arrays that are kept; None if there are none, or damaged ones."""
    try:
        names = json.loads((folder / _NAMES).read_bytes())
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    except (OSError, ValueError):
        return None
