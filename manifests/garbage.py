"""What nothing in a set names, such as tars without a manifest: what killed writers left behind.

Writing a set never deletes (docs/adr/0015-writing-never-deletes.md). This module does, when a user
asks for it and while nobody writes to the set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manifests.layout import ALL_FOLDERS, INDEX
from manifests.shard_set import ShardSet


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may be removed."""

    files: Sequence[str]
    """Paths of tars that no manifest commits, and of an index that the seal does not name."""
    uploads: Mapping[str, str]
    """Uploads that never ended, by number: the path that each would have had."""


def find_garbage(shards: ShardSet) -> Garbage:
    """What nothing names.

    A whole tar is among it, although the next writer would commit it: it can be rendered again.
    """
    committed = shards.committed()
    files = []
    for path in shards.store.list("data"):
        shard = shards.layout.number(path)
        if shard is not None and shard not in committed:
            files.append(path)
    if (seal := shards.seal()) is not None:
        files += [path for path in shards.store.list(INDEX) if path not in seal.files]
    return Garbage(files, shards.store.unfinished())


def remove_garbage(shards: ShardSet, garbage: Garbage) -> None:
    """Delete garbage, and all temporary files.

    Only for a caller who knows that nobody writes to the set: the tar of a writer who has not yet
    created the manifest would be deleted, too.
    """
    for path in garbage.files:
        shards.store.delete(path)
    for upload, path in garbage.uploads.items():
        shards.store.abort(upload, path)
    for folder in ALL_FOLDERS:
        shards.store.sweep(folder)
