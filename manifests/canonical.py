"""The one canonical text of a JSON value, so that equal values have equal hashes."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from hashlib import sha256
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO


def _to_json(value: Any) -> Any:
    """What a value is that is not one of JSON, but says it. Raises TypeError for others."""
    if not is_dataclass(value) or not hasattr(value, "to_json"):
        raise TypeError(f"{type(value).__name__} is no value of JSON")
    return value.to_json()


_RULES: Mapping[str, Any] = {
    "sort_keys": True,
    "ensure_ascii": False,
    "allow_nan": False,
    "default": _to_json,
}
_ENCODER = json.JSONEncoder(separators=(",", ":"), **_RULES)
_INDENTED = json.JSONEncoder(indent=2, **_RULES)
_PIECES_AT_ONCE = 4096
"""Of the text of a large value: words, numbers and brackets that are in memory."""


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
    content = BytesIO()
    content.writelines(_document(value))
    return content.getvalue()


def is_document(data: bytes, value: Any) -> bool:
    """Whether these are the `document_bytes` of a value, which are not made at once."""
    end = 0
    for piece in _document(value):
        if not data.startswith(piece, end):
            return False
        end += len(piece)
    return end == len(data)


def _document(value: Any) -> Iterator[bytes]:
    yield from _encoded(_INDENTED.iterencode(value))
    yield b"\n"


def _encoded(pieces: Iterable[str]) -> Iterator[bytes]:
    pieces = iter(pieces)
    while text := "".join(islice(pieces, _PIECES_AT_ONCE)):
        yield text.encode()


def sha256_hex(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return sha256(data).hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical text of a JSON value."""
    return sha256_hex(canonical_json(value).encode())


def hash_large_json(value: Any) -> str:
    """What `hash_json` gives, without the whole text at once: for an object or a list that holds
    long lists."""
    digest = sha256()
    for part in _encoded(_pieces(value, depth=2)):
        digest.update(part)
    return digest.hexdigest()


def _pieces(value: Any, depth: int) -> Iterator[str]:
    """The canonical text of a value, in pieces down to some depth."""
    if depth and isinstance(value, Mapping):
        items = ((f"{canonical_json(key)}:", value[key]) for key in sorted(value))
        brackets = "{}"
    elif depth and isinstance(value, Iterable) and not isinstance(value, str):
        items = (("", item) for item in value)
        brackets = "[]"
    else:
        yield canonical_json(value)
        return
    yield brackets[0]
    for index, (name, item) in enumerate(items):
        yield f",{name}" if index else name
        yield from _pieces(item, depth - 1)
    yield brackets[1]


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
