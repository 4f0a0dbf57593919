"""Where the files of a model lie on this machine: a set does not say it, and a resume needs it.

A set is given away, so its recipe holds of a path only the last part. This machine remembers the
whole one by the recipe's hash; on another machine the user gives it again.
"""

import json
from collections.abc import Mapping
from typing import Any

from manifests.foundation.caches import NO_CACHE, cache_folder
from manifests.foundation.files import read_regular, write_whole
from manifests.foundation.messages import without_folders

MAX_BYTES = 1 << 20


def published(value: Any) -> Any:
    """A value of JSON without secrets of URLs and folders of this machine."""
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, Mapping):
        return {key: published(item) for key, item in value.items()}
    return [published(item) for item in value] if isinstance(value, list | tuple) else value


def remember(recipe_sha256: str, renderer: Mapping[str, Any]) -> None:
    """Keep what `published` takes away from a renderer's table, if this machine can."""
    changed = {key: value for key, value in renderer.items() if published(value) != value}
    if not changed:
        return
    try:
        folder = cache_folder("models")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{recipe_sha256}.json", json.dumps(changed).encode())
    except NO_CACHE:
        return


def recall(recipe_sha256: str) -> dict[str, Any]:
    """What `remember` kept; nothing on another machine."""
    try:
        path = cache_folder("models") / f"{recipe_sha256}.json"
        kept = json.loads(read_regular(path, max_bytes=MAX_BYTES))
    except (*NO_CACHE, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}
