"""What a worker tells of a shard: in `stats/`, to its executor, and in metrics."""

from collections.abc import Mapping
from dataclasses import dataclass

PHASES = ("wait", "render", "encode", "commit")
"""What a worker does with a shard; two shards are at different ones at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """A shard that is committed. Nothing in it decides pixels."""

    shard: int
    num_views: int
    num_ok: int
    tar_bytes: int
    wait_s: float
    """Seconds in which the attempt waited for the renderer, which made another shard."""
    render_s: float
    """Seconds in which the attempt held the render lock."""
    encode_s: float
    """Seconds in which its views were audited and encoded, beside the rendering of others."""
    commit_s: float
    """Seconds in which its tar was written, hashed and stored; before that its views were read, if
    none of them was rendered."""
    total_s: float
    """Seconds from the start of the attempt until its tar was committed."""
    finished_at: float
    """Unix time, seconds."""
    errors: tuple[str, ...]
    """The error of each attempt before the successful one."""
    storage_repeats: int
    """Calls of the storage that this worker made again since its last report."""
    host: str
    num_taken: int = 0
    """Views that were taken from other sets and not rendered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """How far the shards are that are being made."""

    num_rendered: Mapping[int, int]
    """Views that are rendered so far of each shard whose outcome is not known."""
