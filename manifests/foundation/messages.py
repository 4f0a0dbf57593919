"""Text for people: one line, without secrets, and without what a terminal would obey."""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

MAX_CHARS = 300
"""Longest part of another library's message that is repeated in one of ours."""

# The second line is for URLs that went through `Path`, which makes one slash of two. What looks
# the same and is none (`file:/x`, `wds:/folder`) is left out of it.
# Both lines start at the colon and look back at the scheme. A pattern that starts at the scheme
# would try every letter of a long text again, and take quadratic time.
_URL = re.compile(
    r"((?<=[A-Za-z0-9+.-])://"
    r"|(?<=[A-Za-z0-9+.-]{2})(?<!file)(?<!local)(?<!wds)(?<!imagefolder)(?<!untrained):/)"
    r"([^\s\"'<>]+)"
)
_ENDS_URL = re.compile(r"[\s\"'<>]+")
_USER = re.compile(r"[^/]*@|[^/@:]*:[^@]*@")  # a password may hold a slash
_END_OF_SENTENCE = ":;,.)]}"
"""Marks that end the sentence around a URL: they stay when its query is removed."""

_MIN_SECRET_CHARS = 6
"""Shorter secrets are not searched for: they also occur by chance in text that is no secret."""
_hidden: frozenset[str] = frozenset()
"""Secrets that `hiding` removes just now. Of the whole process: threads of libraries log, too."""

_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of writing: a terminal would show the text in disorder."""
_CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's names for controls, halves of surrogate pairs, line and paragraph separators."""


def redact(text: str) -> str:
    """The text with user, password, query and fragment removed from every URL in it.

    Example: redact("s3://key:secret@bucket/x?sig=1: no such file") == "s3://bucket/x: no such file"
    """
    text = _URL.sub(_without_secrets, text)
    # The longest first: a secret may contain another one, and the rest of it would stay.
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _without_secrets(match: re.Match[str]) -> str:
    separator, rest = match.groups()
    _, address, _, end = _split(rest)
    return f"{separator}{address}{end}"


def _split(rest: str) -> tuple[str, str, str, str]:
    """The parts of a URL after its scheme: user, address, query, and marks that end a sentence.

    Example: _split("key:secret@bucket/x?sig=1:") == ("key:secret@", "bucket/x", "sig=1", ":")
    """
    body = rest.rstrip(_END_OF_SENTENCE)
    end = rest[len(body) :]
    user = match[0] if (match := _USER.match(body)) else ""
    address, *query = re.split(r"[?#]", body[len(user) :], maxsplit=1)
    return user, address, query[0] if query else "", end


def shortened(text: str, max_chars: int = MAX_CHARS) -> str:
    """At most so many characters of a text. Secrets go first: of a cut URL, none is recognised."""
    text = redact(text)
    return text if len(text) <= max_chars else f"{text[:max_chars]}..."


def counted(number: int, noun: str) -> str:
    """A number with its noun, which takes an s unless there is one.

    Example: counted(1, "shard") == "1 shard", counted(2000, "view") == "2,000 views".
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextmanager
def hiding(texts: Iterable[str]) -> Iterator[None]:
    """Until the block ends, `redact` also removes the secrets of the URLs in these texts.

    It removes them wherever they occur, because libraries take URLs apart and show the pieces,
    which can no longer be recognised as parts of a URL.
    """
    global _hidden
    before = _hidden
    _hidden |= {secret for text in texts for secret in _secrets(text)}
    try:
        yield
    finally:
        _hidden = before


def hide(text: str) -> None:
    """Let `redact` remove the secrets of the URLs in a file, line by line, as `hiding` does."""
    global _hidden
    _hidden |= {secret for line in text.splitlines() for secret in _secrets(line)}


def _secrets(text: str) -> set[str]:
    """Passwords and query values in the URLs of a text, in every form that a message may have."""
    pieces: set[str] = set()
    # Besides each URL, all that follows the first double slash: a password may hold blanks and
    # quotes, which end a URL elsewhere, and the scheme may be missing.
    rests = [match[2] for match in _URL.finditer(text)] + [text.partition("//")[2]]
    for rest in rests:
        user, _, query, _ = _split(rest)
        pieces.add(user.removesuffix("@").partition(":")[2])
        pieces |= {value.partition("=")[2] or value for value in re.split(r"[&;#?]", query)}
    pieces |= {part for piece in pieces for part in _ENDS_URL.split(piece)}
    pieces |= {unquote(piece) for piece in pieces} | {quote(piece, safe="") for piece in pieces}
    pieces |= {repr(piece)[1:-1] for piece in pieces} | {
        json.dumps(piece)[1:-1] for piece in pieces
    }
    return {piece for piece in pieces if len(piece) >= _MIN_SECRET_CHARS}


def without_folders(text: str) -> str:
    """A place for documents that are given away: of a path on this machine its last part alone.

    Example: without_folders("/home/me/sets/one") == "one", without_folders("wds:/data/b") ==
    "wds:b", without_folders("s3://bucket/set") == "s3://bucket/set".
    """
    text = redact(text)
    kind, colon, place = text.partition(":")
    if not colon or "/" in kind:
        kind, place = "", text
    if kind in ("file", "local"):
        kind, place = "", place.removeprefix("//")
    if not place.startswith(("/", "~")) or place.startswith("//"):
        return text
    return f"{kind}:{PurePosixPath(place).name}" if kind else PurePosixPath(place).name


def has_secrets(url: str) -> bool:
    """Whether a URL carries something that `redact` removes."""
    return redact(url) != url


def one_line(exc: BaseException, *, about: str = "") -> str:
    """What another library's exception says, as one short line; its type if it says nothing.

    Args:
        about: URL that was passed to the library. If it holds secrets, the library's message is
            not repeated, because it may quote pieces of the URL that `redact` cannot recognise.
    """
    if has_secrets(about):
        return type(exc).__name__
    return redact(" ".join(str(exc).split()))[:MAX_CHARS] or type(exc).__name__


def printable(text: str) -> str:
    """Text from outside as one line that a terminal shows and does not act on.

    Control characters, line ends, changes of writing direction and halves of surrogate pairs become
    escapes; everything else stays as it is.

    Example: an escape character becomes the four characters `\\x1b`.
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_control(character) else character
        for character in text
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL_CATEGORIES or character in _OVERRIDES
