"""Tars that no manifest commits, and temporary files that killed writers left behind.

Writing a set never deletes (docs/adr/0015-writing-never-deletes.md). This module does, when a user
asks for it and while nobody writes to the set.
"""

from collections.abc import Iterator

from manifests.layout import NUMBERED_FOLDERS
from manifests.shard_set import ShardSet


def find_garbage(shards: ShardSet) -> Iterator[str]:
    """Paths of tars of this set that no manifest commits.

    A whole tar is among them, although the next writer would commit it: it can be rendered again.
    """
    committed = set(shards.committed())
    for path in shards.store.list("data"):
        shard = shards.layout.number(path)
        if shard is not None and shard not in committed:
            yield path


def remove_garbage(shards: ShardSet) -> list[str]:
    """Delete what `find_garbage` finds, and all temporary files.

    Only for a caller who knows that nobody writes to the set: the tar of a writer who has not yet
    created the manifest would be deleted, too.

    Returns:
        Paths of the deleted tars.
    """
    paths = list(find_garbage(shards))
    for path in paths:
        shards.store.delete(path)
    for folder in ("", *NUMBERED_FOLDERS):
        shards.store.sweep(folder)
    return paths
