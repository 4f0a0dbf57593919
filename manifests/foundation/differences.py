"""Which keys of two JSON documents differ, for a message that names them."""

from collections.abc import Mapping
from typing import Any


def differing_keys(one: Any, other: Any) -> list[str]:
    """Dotted names of the values that differ, in alphabetical order.

    A key that only one of the documents has differs, unless its value is null. Lists are compared
    as a whole.

    Example: differing_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ["a.c"].
    """
    return sorted(_differing(one, other, ""))


def _differing(one: Any, other: Any, path: str) -> list[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return [
            name
            for key in {*one, *other}
            for name in _differing(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if one == other else [path]
