"""What a validator found: values, so that a caller sees all of them and chooses what to do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault of a shard set."""

    where: str
    """File, or file and key, relative to the set."""
    kind: str
    """Stable name to dispatch on, such as `CorruptError` or `seed`."""
    message: str
    """What was found, what was expected, what to do."""
