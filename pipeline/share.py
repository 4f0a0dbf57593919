"""A part of a plan, for clusters that start one process for each part, such as a Slurm array."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import shortened


@dataclass(frozen=True, slots=True)
class Share:
    """Every `count`th shard of a plan. Shares of one count have no shard in common.

    Raises:
        ConfigError: The number is not one of 1 to `count`.
    """

    number: int
    """From 1."""
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"share {self}: out of range; expected 1/{self.count} to {self.count}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> "Share":
        """The share of a text such as `3/64`. Raises ConfigError."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None or int(match[2]) == 0:
            raise ConfigError(
                f"share {shortened(text, 40)!r}: expected a number and a count, such as 3/64"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, shards: Iterable[int]) -> Iterator[int]:
        """The shards that belong to this share, whatever else is among them."""
        return (shard for shard in shards if shard % self.count == self.number - 1)
