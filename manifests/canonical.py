"""The one canonical text of a JSON value, so that equal values have equal hashes."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """The text of a JSON value that is hashed: sorted keys, no white space, letters not escaped.

    Numbers follow SPEC.md: a float always has a point or an exponent, so 2 and 2.0 differ.

    Raises:
        ValueError: The value contains NaN or infinity.

    Example: canonical_json({"b": [1, 2.0], "a": "é"}) == '{"a":"é","b":[1,2.0]}'.
    """
    return _ENCODER.encode(value)


def document_bytes(value: Any) -> bytes:
    """A JSON document as a set stores it: keys sorted, indented for people, one newline."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def sha256_hex(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return sha256(data).hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical text of a JSON value."""
    return sha256_hex(canonical_json(value).encode())


def hash_file(path: Path) -> str:
    """SHA-256 of a local file, read in pieces."""
    with path.open("rb") as file:
        return hash_stream(file)[0]


def hash_stream(
    file: BinaryIO, on_piece: Callable[[bytes], object] = lambda piece: None
) -> tuple[str, int]:
    """Hash a file from its current position to its end, in pieces of at most 1 MiB.

    Args:
        on_piece: Called with every piece, for a caller that also copies the file.

    Returns:
        SHA-256 in hexadecimal, and the number of bytes.
    """
    digest, size = sha256(), 0
    while piece := file.read(1 << 20):
        digest.update(piece)
        size += len(piece)
        on_piece(piece)
    return digest.hexdigest(), size
