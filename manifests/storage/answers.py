"""Turns the errors of remote storages into messages that say what really happened.

The libraries behind fsspec do not always say so: they raise errors of their own, built-in errors
whose message is None, and an IndexError when they cannot handle another error.
"""

from collections.abc import Iterator, Mapping

from manifests.foundation.messages import one_line

_REFUSED = (401, 403)
_SKEWED = "RequestTimeTooSkewed"
"""In what S3 answers to a request that was signed at another time than its own."""
_RETRY = "run the same command again; if it fails again, look at the storage"
_CREDENTIALS = "look at the credentials and what they may do there"


def explain(exc: Exception, *, about: str) -> str:
    """What happened and what to do, such as `Slow down; run the same command again`.

    Args:
        about: The URL that was passed to the library. If it holds secrets, the library's message is
            not quoted.
    """
    chain = list(causes(exc))
    words = one_line(exc, about=about)
    if words == "None":  # such as PermissionError(None), for an answer without a text
        words = type(exc).__name__
    if any(_SKEWED in str(cause) for cause in chain):
        return f"the clock of this machine is wrong ({words}); set it by NTP"
    if http_status(exc) in _REFUSED or isinstance(exc, PermissionError):
        status = http_status(exc)
        quoted = "" if words == type(exc).__name__ else f": {words}"
        code = "" if status is None else f" (HTTP {status})"
        return f"access was refused{code}{quoted}; {_CREDENTIALS}"
    if any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in chain):
        return f"the storage stopped answering; {_RETRY}"
    if isinstance(exc, LookupError | TypeError | AttributeError):
        # The library failed while it handled another error. That one says what happened.
        cause = next((cause for cause in chain[1:] if isinstance(cause, OSError)), None)
        words = one_line(cause, about=about) if cause else f"{type(exc).__name__} in its library"
        return f"reading failed ({words}); {_RETRY}"
    return f"{words}; {_RETRY}"


def http_status(exc: BaseException | None) -> int | None:
    """The HTTP status of the server's answer, from an exception or from what caused it.

    Each library keeps it in another attribute. None if there is none.
    """
    while exc is not None:
        response = getattr(exc, "response", None)
        if isinstance(response, Mapping):  # botocore
            return int(response["ResponseMetadata"]["HTTPStatusCode"])
        for name in ("status_code", "code", "status"):  # azure, gcsfs, aiohttp
            if str(value := getattr(exc, name, "")).isdecimal():
                return int(value)
        exc = exc.__cause__
    return None


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The exception, the one that caused it, and so on; a circle of causes is followed once."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__
