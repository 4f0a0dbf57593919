"""Text for people: one line, without secrets, and without what a terminal would obey."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

MAX_CHARS = 300
"""Longest part of another library's message that is repeated in one of ours."""

# A path object makes one slash of two; `wds:/folder` and the like are paths and no URLs.
# Schemes are looked back for, one character at a time: text of any length takes linear time.
_URL = re.compile(
    r"((?<=[A-Za-z0-9+.-])://"
    r"|(?<=[A-Za-z0-9+.-]{2})(?<!file)(?<!local)(?<!wds)(?<!imagefolder)(?<!untrained):/)"
    r"([^\s\"'<>]+)"
)
_USER = re.compile(r"[^/]*@|[^/@:]*:[^@]*@")  # a password may hold a slash
_END_OF_SENTENCE = ":;,.)]}"

_MIN_SECRET_CHARS = 6
"""Shorter pieces of a URL are not looked for in other text, where they would be found by chance."""
_hidden: frozenset[str] = frozenset()

_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def redact(text: str) -> str:
    """The text with user, password, query and fragment removed from every URL in it.

    Example: redact("s3://key:secret@bucket/x?sig=1: no such file") == "s3://bucket/x: no such file"
    """
    text = _URL.sub(_without_secrets, text)
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _without_secrets(match: re.Match[str]) -> str:
    separator, rest = match.groups()
    _, kept, _, end = _split(rest)
    return f"{separator}{kept}{end}"


def _split(rest: str) -> tuple[str, str, str, str]:
    """User, place, query and end of the sentence of a URL behind its scheme."""
    body = rest.rstrip(_END_OF_SENTENCE)
    end = rest[len(body) :]
    user = match[0] if (match := _USER.match(body)) else ""
    place, *query = re.split(r"[?#]", body[len(user) :], maxsplit=1)
    return user, place, query[0] if query else "", end


@contextmanager
def hiding(given: Iterable[str]) -> Iterator[None]:
    """Until the block ends, `redact` also removes the secrets of these texts by themselves.

    Libraries take URLs apart and show the pieces, which nobody recognises as parts of a URL.
    """
    global _hidden
    before = _hidden
    _hidden |= {secret for text in given for secret in _secrets(text)}
    try:
        yield
    finally:
        _hidden = before


def _secrets(text: str) -> set[str]:
    """Passwords and values of queries in the URLs of a text, as they are and as URLs spell them."""
    pieces: set[str] = set()
    for match in _URL.finditer(text):
        user, _, query, _ = _split(match[2])
        pieces.add(user.removesuffix("@").partition(":")[2])
        pieces |= {value.partition("=")[2] or value for value in re.split(r"[&;#?]", query)}
    pieces |= {unquote(piece) for piece in pieces} | {quote(piece, safe="") for piece in pieces}
    return {piece for piece in pieces if len(piece) >= _MIN_SECRET_CHARS}


def has_secrets(url: str) -> bool:
    """Whether a URL carries something that `redact` removes."""
    return redact(url) != url


def one_line(exc: BaseException, *, about: str = "") -> str:
    """What another library's exception says, as one short line; its type if it says nothing.

    Args:
        about: URL that the library was given. If it holds secrets, the library's words are not
            repeated, because it may have cut the URL into pieces that are not recognised.
    """
    if has_secrets(about):
        return type(exc).__name__
    return redact(" ".join(str(exc).split()))[:MAX_CHARS] or type(exc).__name__


def printable(text: str) -> str:
    """Text of a file as one line that a terminal shows and does not obey.

    Control characters, line ends, overrides of writing direction and halves of surrogate pairs are
    shown as escapes; everything else stays as it is.

    Example: an escape character becomes the four characters `\\x1b`.
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_control(character) else character
        for character in text
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL_CATEGORIES or character in _OVERRIDES
