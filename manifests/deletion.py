"""Remove a whole set: the seal first, so that nobody trusts what is left, and the recipe last.

What a killed call leaves is a set that is recognised, and the same call goes on. Only a user may
ask for it (docs/adr/0015-writing-never-deletes.md).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from manifests.derived import DERIVED
from manifests.errors import ForeignSetError
from manifests.foundation.threads import in_threads
from manifests.layout import ALL_FOLDERS, EXAMPLES, INDEX, RECIPE, SEAL
from manifests.shard_set import ShardSet

NUM_WORKERS = 16
"""Files that are removed at once: in a bucket a removal is mostly waiting."""

_INDEX = re.compile(INDEX + r"/[0-9a-f]{16}-[0-9]{6}\.parquet")
_EXAMPLE = re.compile(EXAMPLES + r"/[0-9]+_[0-9]+\.(jpg|png)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What there is of a set."""

    shards: ShardSet
    stages: Sequence[Mapping[str, int]]
    """Sizes in bytes by path. A stage is removed when the one before it is gone."""

    @property
    def num_files(self) -> int:
        return sum(map(len, self.stages))

    @property
    def num_bytes(self) -> int:
        return sum(size for stage in self.stages for size in stage.values())


def plan_deletion(shards: ShardSet) -> Deletion:
    """List a set. Removes nothing.

    Raises:
        ForeignSetError: There is something at its URL that is no file of the set.
    """
    store = shards.store
    by_folder = {folder: store.list(folder) for folder in ALL_FOLDERS}
    for folder, files in by_folder.items():
        for name in store.names(folder):
            path = f"{folder}/{name}" if folder else name
            is_ours = path in files and _is_of_set(shards, path)
            if not is_ours and not (folder == "" and name in ALL_FOLDERS and path not in files):
                raise ForeignSetError(
                    f"{store.at(path)}: is no file of the set, so nothing is removed; move it "
                    "away, and run the same command again"
                )
    sizes = {path: size for files in by_folder.values() for path, size in files.items()}
    # No file outlives one that vouches for it: the seal, then what follows from it, then the
    # manifests, then their tars.
    stages = [
        {path: sizes.pop(path) for path in (SEAL,) if path in sizes},
        {path: sizes.pop(path) for path in [*sizes] if _follows_from_seal(path)},
        {path: sizes.pop(path) for path in by_folder["manifests"]},
        {path: size for path, size in sizes.items() if path != RECIPE},
        {RECIPE: sizes[RECIPE]},
    ]
    return Deletion(shards=shards, stages=[stage for stage in stages if stage])


def _is_of_set(shards: ShardSet, path: str) -> bool:
    is_numbered = shards.layout.number(path) is not None
    return is_numbered or path in (RECIPE, SEAL) or _follows_from_seal(path)


def _follows_from_seal(path: str) -> bool:
    return path in DERIVED or bool(_INDEX.fullmatch(path) or _EXAMPLE.fullmatch(path))


def delete_set(deletion: Deletion) -> Iterator[str]:
    """Remove a set, and yield each path when it is gone.

    Only for a caller who knows that nobody writes to it.

    Raises:
        StoreError: The storage refuses.
    """
    store = deletion.shards.store

    def remove(path: str) -> str:
        store.delete(path)
        return path

    for upload, path in store.unfinished().items():
        store.abort(upload, path)
    for stage in deletion.stages:
        if RECIPE in stage:
            for folder in ALL_FOLDERS:
                store.sweep(folder)
        yield from in_threads(remove, stage, num_threads=NUM_WORKERS, name="delete")
    store.prune(ALL_FOLDERS)
