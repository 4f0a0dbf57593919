"""What is shown to people: one line, without the secrets that a URL may carry."""

import re

MAX_CHARS = 300
"""Longest part of another library's message that is repeated in one of ours."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s\"'<>]+)")
_USER = re.compile(r"[^/]*@|[^/@]*:[^@]*@")  # a password may hold a slash
_END_OF_SENTENCE = ":;,.)]}"


def redact(text: str) -> str:
    """The text with user, password, query and fragment removed from every URL in it.

    Example: redact("s3://key:secret@bucket/x?sig=1: no such file") == "s3://bucket/x: no such file"
    """
    return _URL.sub(_without_secrets, text)


def _without_secrets(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    body = rest.rstrip(_END_OF_SENTENCE)
    end = rest[len(body) :]
    if user := _USER.match(body):
        body = body[user.end() :]
    return scheme + re.split(r"[?#]", body, maxsplit=1)[0] + end


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
