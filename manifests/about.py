"""What a seal says of the subjects and views of its set, for cards and other descriptions.

It follows from the manifests. It stands in the seal so that the descriptions follow from recipe and
seal alone, and nobody has to read a million rows to write them again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from manifests.errors import ContractError
from manifests.ids import parse_key
from manifests.manifest import Manifest
from manifests.tars import MAX_MEMBER_BYTES

MAX_LICENCES = 1000
"""Licences that are counted by themselves; subjects of others are counted together."""
MAX_EXAMPLES = 4

LABELS = ("none", "numbers", "texts")
"""What the labels of the subjects are. Numbers: every subject has one that is a whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A view that stands for the set, and where its image lies."""

    key: str
    text: str
    shard: int
    offset: int
    """First byte of the image in the tar of the shard."""
    length: int
    """Of the image, in bytes."""
    sha256: str
    """Of the image, 64 hexadecimal digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Facts of a sealed set."""

    kinds: Mapping[str, int]
    """Subjects by what their text is."""
    licences: Sequence[tuple[str, int]]
    """Licences of subjects with their numbers, the most frequent first; an empty text stands for
    the subjects that state none."""
    num_other_licences: int
    """Subjects whose licence is not listed."""
    labels: str
    """One of LABELS."""
    examples: Sequence[Example]
    """Views of the first group that has a good one."""

    def to_json(self) -> dict[str, Any]:
        """As the seal stores it."""
        return {
            "kinds": dict(self.kinds),
            "licences": [[name, count] for name, count in self.licences],
            "num_other_licences": self.num_other_licences,
            "labels": self.labels,
            "examples": [asdict(example) for example in self.examples],
        }


def parse_about(document: Any) -> About:
    """Read what `About.to_json` gives; keys of a newer minor version are ignored.

    Raises:
        ValueError: A key is missing, or a value has another type or lies outside of its bounds.
    """
    try:
        about = About(
            kinds=dict(document["kinds"]),
            licences=[(name, count) for name, count in document["licences"]],
            num_other_licences=document["num_other_licences"],
            labels=document["labels"],
            examples=[
                Example(**{name: example[name] for name in Example.__slots__})
                for example in document["examples"]
            ],
        )
        counts = [*about.kinds.values(), about.num_other_licences]
        counts += [count for _, count in about.licences]
        texts = [*about.kinds, about.labels, *(name for name, _ in about.licences)]
        for example in about.examples:
            parse_key(example.key)  # it names a file
            counts += [example.shard, example.offset, example.length]
            texts += [example.sha256, example.text]
    except (LookupError, TypeError, AttributeError, ContractError) as exc:
        raise ValueError(f"about: {exc!r:.100}") from exc
    is_typed = all(type(count) is int and 0 <= count < 2**63 for count in counts)
    is_typed &= all(isinstance(text, str) for text in texts) and about.labels in LABELS
    is_small = all(example.length <= MAX_MEMBER_BYTES for example in about.examples)
    if not is_typed or not is_small or len(about.examples) > MAX_EXAMPLES:
        raise ValueError("about: a value that no seal has")
    return about


class AboutCounter:
    """The facts of many shards, added one after the other in ascending order."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._licences: Counter[str] = Counter()
        self._num_other = 0
        self._has: set[str] = set()
        self._examples: list[Example] = []

    def add(self, facts: "ShardFacts") -> None:
        """Add the facts of one shard."""
        self._kinds.update(facts.kinds)
        for licence, count in facts.licences.items():
            if licence in self._licences or len(self._licences) < MAX_LICENCES:
                self._licences[licence] += count
            else:
                self._num_other += count
        self._has |= facts.labels
        self._examples = self._examples or facts.examples

    def result(self) -> About:
        """What was added so far."""
        alone = next(iter(self._has)) if len(self._has) == 1 else "texts"
        by_number = sorted(self._licences.items(), key=lambda item: (-item[1], item[0]))
        return About(
            kinds=dict(sorted(self._kinds.items())),
            licences=by_number,
            num_other_licences=self._num_other,
            labels=alone if self._has else "none",
            examples=self._examples,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFacts:
    """The facts of one shard."""

    kinds: Counter[str]
    licences: Counter[str]
    labels: set[str]
    """Of LABELS, those that a subject of the shard has."""
    examples: list[Example]


def facts_of(manifest: Manifest) -> ShardFacts:
    """Count what one shard has."""
    facts = ShardFacts(kinds=Counter(), licences=Counter(), labels=set(), examples=[])
    for _, group in groupby(manifest.rows, key=lambda row: row.group_id):
        rows = list(group)
        facts.kinds[rows[0].kind] += 1
        facts.licences[rows[0].licence] += 1
        facts.labels.add(_kind_of_label(rows[0].label))
        if not facts.examples:
            facts.examples.extend(
                Example(
                    key=row.key,
                    text=row.text,
                    shard=manifest.shard,
                    offset=row.offset,
                    length=row.length,
                    sha256=row.sha256,
                )
                for row in [row for row in rows if row.is_ok][:MAX_EXAMPLES]
            )
    return facts


def _kind_of_label(label: str) -> str:
    if not label:
        return "none"
    return "numbers" if label.isascii() and label.isdecimal() and len(label) < 10 else "texts"
