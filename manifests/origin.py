"""Which sets the views of a set were taken from, where it was grown, merged or split.

It stands in the recipe beside the identity and not in it: a grown set has the pixels and rows of a
set that was made at once, and the same hash (docs/adr/0024).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSet:
    """A sealed set that views were taken from."""

    root_sha256: str
    recipe_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part of a split set: the groups whose place (`ids.split_place`) lies in a range."""

    name: str
    seed: int
    start: float
    """Of the range, 0 to 1."""
    stop: float
    """End of the range, which does not belong to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the views of a set come from that were not rendered for it."""

    verb: str
    """The command that made the set: `grow`, `merge` or `split`."""
    sets: Sequence[SourceSet]
    part: Part | None = None
    """Of a split set."""

    def to_json(self) -> dict[str, Any]:
        """The origin as the recipe stores it."""
        document: dict[str, Any] = {"verb": self.verb, "sets": [asdict(one) for one in self.sets]}
        return document | ({} if self.part is None else {"part": asdict(self.part)})


def parse_origin(document: Any) -> Origin:
    """Read an origin; keys of a newer minor version are ignored.

    Raises:
        ValueError: A key is missing or a value has another type.
    """
    try:
        sets = tuple(SourceSet(**_texts(one)) for one in document["sets"])
        part = None if "part" not in document else _part(document["part"])
        verb = document["verb"]
    except (LookupError, TypeError, AttributeError) as exc:
        raise ValueError(f"origin: {exc}") from exc
    if not isinstance(verb, str) or not sets:
        raise ValueError(f"origin: verb {verb!r:.40}, {len(sets)} sets")
    return Origin(verb=verb, sets=sets, part=part)


def _texts(document: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: document[name] for name in SourceSet.__slots__}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("origin: a hash is no text")
    return texts


def _part(document: Mapping[str, Any]) -> Part:
    values = {name: document[name] for name in Part.__slots__}
    types = {"name": str, "seed": int, "start": float, "stop": float}
    if any(type(value) is not types[name] for name, value in values.items()):
        raise ValueError(f"origin: {values!r:.100} is no part")
    return Part(**values)
