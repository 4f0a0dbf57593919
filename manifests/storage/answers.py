"""What a remote storage answered, in words that are true.

The libraries of fsspec raise what they like: errors of their own, built-in errors with a message
that is None, and IndexError where they meet an error that they did not expect.
"""

from collections.abc import Iterator, Mapping

from manifests.foundation.messages import one_line

_REFUSED = (401, 403)
_RETRY = "run the same command again; if it fails again, look at the storage"
_CREDENTIALS = "look at the credentials and what they may do there"


def explain(exc: Exception, *, about: str) -> str:
    """What happened and what to do, such as `Slow down; run the same command again`.

    Args:
        about: The URL that the library was given; if it holds secrets, it is not quoted.
    """
    causes = list(_causes(exc))
    words = one_line(exc, about=about)
    if words == "None":
        words = type(exc).__name__
    if http_status(exc) in _REFUSED or isinstance(exc, PermissionError):
        status = http_status(exc)
        said = "" if words == type(exc).__name__ else f": {words}"
        code = "" if status is None else f" (HTTP {status})"
        return f"access was refused{code}{said}; {_CREDENTIALS}"
    if any(
        isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in causes
    ):
        return f"the storage stopped answering; {_RETRY}"
    if isinstance(exc, LookupError | TypeError | AttributeError):
        # A library that stumbles over an error hides it: the one before says what happened.
        before = next((cause for cause in causes[1:] if isinstance(cause, OSError)), None)
        words = one_line(before, about=about) if before else f"{type(exc).__name__} in its library"
        return f"reading failed ({words}); {_RETRY}"
    return f"{words}; {_RETRY}"


def http_status(exc: BaseException | None) -> int | None:
    """The HTTP status of the server's answer, from an exception or from what caused it."""
    while exc is not None:
        response = getattr(exc, "response", None)
        if isinstance(response, Mapping):  # botocore
            return int(response["ResponseMetadata"]["HTTPStatusCode"])
        for name in ("status_code", "code", "status"):  # azure, gcsfs, aiohttp
            if str(value := getattr(exc, name, "")).isdecimal():
                return int(value)
        exc = exc.__cause__
    return None


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that came before it."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__
