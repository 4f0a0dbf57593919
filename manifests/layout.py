"""Where things lie in a shard set. Paths are relative to its URL, with forward slashes."""

import re

RECIPE = "recipe.json"
SEAL = "dataset.json"
CARD = "README.md"
SIZES = "data/sizes.json"

NUMBERED_FOLDERS = ("data", "manifests", "prompts", "stats", "failed")

SHARDS_PER_PROMPT_FILE = 1000
MIN_DIGITS = 6

_NUMBERED = re.compile(rf"({'|'.join(NUMBERED_FOLDERS)})/([0-9]{{6,}})\.(tar|parquet|json)")


def num_digits(num_shards: int) -> int:
    """Digits of a shard number: six at least, the same in every folder of one set."""
    return max(MIN_DIGITS, len(str(max(num_shards - 1, 0))))


class Layout:
    """Names of the numbered files of a set with a given number of shards."""

    def __init__(self, num_shards: int) -> None:
        self.num_shards = num_shards
        self._digits = num_digits(num_shards)

    def _name(self, folder: str, number: int, suffix: str) -> str:
        return f"{folder}/{number:0{self._digits}d}.{suffix}"

    def tar(self, shard: int) -> str:
        return self._name("data", shard, "tar")

    def manifest(self, shard: int) -> str:
        return self._name("manifests", shard, "parquet")

    def stats(self, shard: int) -> str:
        return self._name("stats", shard, "json")

    def failed(self, shard: int) -> str:
        return self._name("failed", shard, "json")

    def prompts(self, shard: int) -> tuple[str, int]:
        """File and row group that hold the prompts of a shard."""
        file, row_group = divmod(shard, SHARDS_PER_PROMPT_FILE)
        return self._name("prompts", file, "parquet"), row_group

    def prompt_files(self) -> list[str]:
        """All files of the plan, in order."""
        count = -(-self.num_shards // SHARDS_PER_PROMPT_FILE)
        return [self._name("prompts", file, "parquet") for file in range(count)]


def shard_number(path: str) -> int | None:
    """Shard number of a numbered file of any folder, None for another path.

    Example: shard_number("manifests/000012.parquet") == 12.
    """
    match = _NUMBERED.fullmatch(path)
    return int(match[2]) if match else None
