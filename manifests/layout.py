"""Where things lie in a shard set. Paths are relative to its URL, with forward slashes."""

import re
from collections.abc import Iterator

RECIPE = "recipe.json"
SEAL = "dataset.json"
CARD = "README.md"
SIZES = "data/sizes.json"
CROISSANT = "croissant.json"
TIMM_INFO = "_info.json"
EXAMPLES = "examples"
INDEX = "index"

SUFFIX_OF = {
    "data": "tar",
    "manifests": "parquet",
    "subjects": "parquet",
    "stats": "json",
    "failed": "json",
}
"""Folders of numbered files, and the suffix that a reader's glob looks for in each."""

NUMBERED_FOLDERS = tuple(SUFFIX_OF)
ALL_FOLDERS = ("", *NUMBERED_FOLDERS, INDEX, EXAMPLES)
"""Where files of a set lie, and beside them temporary ones of killed writers."""

SHARDS_PER_FILE = 1000
"""Shards whose subjects are in one file of the plan, and whose groups in one file of the index."""
MIN_DIGITS = 6
MAX_NOTES = 1000
"""Notes on the failures of one shard, as many as three digits can number."""

# [0-9] and not \d, which also matches the digits of other scripts.
_NUMBERED = re.compile(r"([a-z]+)/([0-9]{6,})(?:-([0-9]{3}))?\.([a-z]+)")


def num_digits(num_shards: int) -> int:
    """Digits of a shard number: six at least, the same in every folder of one set."""
    return max(MIN_DIGITS, len(str(max(num_shards - 1, 0))))


class Layout:
    """Names of the numbered files of a set with a given number of shards."""

    def __init__(self, num_shards: int) -> None:
        self.num_shards = num_shards
        self._digits = num_digits(num_shards)

    def _name(self, folder: str, number: int) -> str:
        return f"{folder}/{number:0{self._digits}d}.{SUFFIX_OF[folder]}"

    def tar(self, shard: int) -> str:
        return self._name("data", shard)

    def manifest(self, shard: int) -> str:
        return self._name("manifests", shard)

    def stats(self, shard: int) -> str:
        return self._name("stats", shard)

    def failed(self, shard: int, note: int) -> str:
        """One of the notes on a shard: it has one for each time that it was given up."""
        return f"failed/{shard:0{self._digits}d}-{note:03d}.json"

    def subjects(self, shard: int) -> tuple[str, int]:
        """File and row group that hold the subjects of a shard."""
        file, row_group = divmod(shard, SHARDS_PER_FILE)
        return self._name("subjects", file), row_group

    def shards_of_subject_files(self) -> Iterator[tuple[str, range]]:
        """All files of the plan in order, each with the shards whose subjects it holds."""
        for start in range(0, self.num_shards, SHARDS_PER_FILE):
            stop = min(start + SHARDS_PER_FILE, self.num_shards)
            yield self.subjects(start)[0], range(start, stop)

    def subject_files(self) -> list[str]:
        """All files of the plan, in order."""
        return [path for path, _ in self.shards_of_subject_files()]

    def index(self, root_sha256: str, file: int) -> str:
        """A file of the index of a sealed set.

        The root is in its name: a sealing that was killed may have left the index of fewer shards.
        """
        return f"{INDEX}/{root_sha256[:16]}-{file:06d}.parquet"

    def number(self, path: str) -> int | None:
        """Number of a numbered file of this set; None for any other path.

        A number with more or fewer digits than this set uses is not one of its files. Otherwise two
        files could stand for one shard.

        Example: Layout(20).number("manifests/000012.parquet") == 12, but
        Layout(20).number("manifests/0000012.parquet") is None.
        """
        match = _NUMBERED.fullmatch(path)
        if match is None or SUFFIX_OF.get(match[1]) != match[4] or len(match[2]) != self._digits:
            return None
        # Notes on failures, and only they, have a second number.
        if (match[1] == "failed") != (match[3] is not None):
            return None
        number = int(match[2])
        return number if number < self.num_shards else None


def is_read_by_glob(path: str) -> bool:
    """Whether a reader whose glob takes all files of a folder with one suffix would read this file.

    Example: is_read_by_glob("data/extra.tar") is True, is_read_by_glob("notes.txt") is False.
    """
    folder, _, name = path.rpartition("/")
    suffix = SUFFIX_OF.get(folder)
    return suffix is not None and name.endswith(f".{suffix}")
