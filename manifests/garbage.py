"""Files that nothing names: tars that no manifest commits, and what killed writers left behind.

Writing a set never deletes. This does, when it is asked to, and only while nobody writes.
"""

from collections.abc import Iterator

from manifests.layout import NUMBERED_FOLDERS
from manifests.shard_set import ShardSet


def find_garbage(shards: ShardSet) -> Iterator[str]:
    """Paths of tars of this set that no manifest commits.

    A tar that is whole would be committed by the next writer; it is garbage all the same, because
    it can be made again.
    """
    committed = set(shards.committed())
    for path in shards.store.list("data"):
        shard = shards.layout.number(path)
        if shard is not None and shard not in committed:
            yield path


def remove_garbage(shards: ShardSet) -> list[str]:
    """Delete what `find_garbage` finds, and temporary files. Only while nobody else writes."""
    paths = list(find_garbage(shards))
    for path in paths:
        shards.store.delete(path)
    for folder in ("", *NUMBERED_FOLDERS):
        shards.store.sweep(folder)
    return paths
