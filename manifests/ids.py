"""Ids and seeds: pure functions that never change within format version 2 (golden-tested)."""

import re
import unicodedata
from hashlib import blake2b

from manifests.errors import ContractError

NUM_SEEDS = 2**32
"""Seeds have 32 bits because torch's CPU generator uses no more."""

# Not \d, which also matches the digits of other scripts.
_KEY = re.compile(r"([0-9]{9})_([0-9]{3})")


def canonical_text(text: str) -> str:
    """The text that is hashed, stored and rendered: NFC, white space collapsed, case kept.

    Example: canonical_text("  a\\tred   fox\\n") == "a red fox".
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def group_id(kind: str, text: str) -> int:
    """63-bit id of the view group that depicts `text`: equal texts have equal ids, everywhere.

    Args:
        kind: What the text is, such as `caption`.
        text: Canonical text (see `canonical_text`).

    Returns:
        0 to 2**63 - 1, so that it fits a signed 64-bit integer.
    """
    # The zero byte separates the two: without it ("a", "bc") and ("ab", "c") would be one group.
    digest = blake2b(f"{kind}\0{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # 63 bits: Parquet's int64 is signed


def view_seed(dataset_seed: int, group: int, draw: int) -> int:
    """Seed of what is random in a view, 0 to 2**32 - 1.

    It does not depend on the variation, so the views of one draw share their noise. In stock
    diffusers `torch.Generator().manual_seed(seed)` draws the same noise.

    Args:
        group: Group id of the view.
        draw: The view's index in its group; in a paired set, its index divided by the number of
            variations, rounded down.
    """
    text = f"{dataset_seed}\0{group}".encode()
    start = int.from_bytes(blake2b(text, digest_size=4).digest(), "big")
    # Consecutive seeds, and not one hash for each draw, so that no two draws of a group are equal.
    return (start + draw) % NUM_SEEDS


def split_place(seed: int, group: int) -> float:
    """Where a group lies when sets are split, 0 to 1: the part whose range holds it has the group.

    It depends on nothing else, so a group of a set that has grown is in the part that it was in.

    Args:
        group: Group id.
    """
    digest = blake2b(f"split\0{seed}\0{group}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # as many bits as a float holds exactly


def view_key(group_index: int, view_index: int) -> str:
    """Name of a view in its set. Example: view_key(12, 3) == "000000012_003".

    Raises:
        ContractError: An index has more digits than a key has room for.
    """
    if not (0 <= group_index < 10**9 and 0 <= view_index < 1000):
        raise ContractError(
            f"no key for group {group_index}, view {view_index}: a set holds at most 10**9 groups "
            "of 1,000 views; make several sets"
        )
    return f"{group_index:09d}_{view_index:03d}"


def parse_key(key: str) -> tuple[int, int]:
    """Group index and view index of a key. Example: parse_key("000000012_003") == (12, 3).

    Raises:
        ContractError: The text is not a key.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise ContractError(
            f"{key!r} is not a key: expected nine digits, an underscore and three digits, "
            "such as 000000012_003"
        )
    return int(match[1]), int(match[2])
