"""Calls of a remote storage: each has a time limit, and is made again where that may help.

The libraries behind fsspec repeat calls as well, one inside the other, and some of their time
limits do not end an upload that is never answered. Here is the one layer that decides: a call of
which nothing is heard for a while is ended, and what may pass is tried again with growing pauses.
"""

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from fsspec.callbacks import Callback

from manifests.foundation.errors import ConfigError
from manifests.storage.answers import causes, explain, http_status

log = logging.getLogger(__name__)


def _seconds(variable: str, default: float) -> float:
    """Seconds that the user has set for this machine. Raises ConfigError."""
    text = os.environ.get(variable, "")
    try:
        seconds = float(text) if text else default
        if not 0 <= seconds < float("inf"):
            raise ValueError
    except ValueError as exc:
        raise ConfigError(f"{variable} is {text!r:.40}, expected seconds such as 60") from exc
    return seconds


SILENCE_S = _seconds("SYNTH_STORAGE_SILENCE_S", 60)
"""A call is ended when nothing was heard of it for so long, and for as long as its next piece may
take at `SLOWEST_BYTES_PER_S`."""
PATIENCE_S = _seconds("SYNTH_STORAGE_PATIENCE_S", 300)
"""A call that fails is made again for so long."""
FIRST_PATIENCE_S = 60.0
"""The same, as long as the storage has not answered at all: its address may be wrong. One call that
is silent is made again even so."""
SLOWEST_BYTES_PER_S = 1 << 20
LISTING_S = 600.0
"""A listing is one call of many requests, of which nothing is heard before the last."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0

_TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
_TRANSIENT_NAMES = frozenset(
    {
        *("HTTPClientError", "EndpointConnectionError", "ConnectionClosedError"),
        *("ReadTimeoutError", "ConnectTimeoutError", "ResponseStreamingError"),
        *("ClientPayloadError", "ServerDisconnectedError", "ClientConnectorError", "ClientOSError"),
        *("IncompleteReadError", "ServiceRequestError", "ServiceResponseError"),
        "FlexibleChecksumError",
    }
)
"""Errors of a connection and of what came through it, as botocore, aiohttp and azure name them."""

_CHANCE = random.SystemRandom()  # not the generator that a program may have seeded
_Answer = TypeVar("_Answer")


class SilenceError(TimeoutError):
    """Nothing was heard of a call for too long."""


class Progress(Callback):  # type: ignore[misc]
    """When a call last moved something; fsspec's uploads report each piece that was sent."""

    def __init__(self, limit_s: float) -> None:
        super().__init__()
        self._limit_s = limit_s
        self._last = time.monotonic()

    def call(self, *_: object, **__: object) -> None:
        """Called by fsspec at each piece."""
        self._last = time.monotonic()

    def left_s(self) -> float:
        """Seconds until the call is ended if nothing more is heard."""
        return self._last + self._limit_s - time.monotonic()


def limit_s(piece_bytes: int) -> float:
    """How long a call may be silent that moves pieces of this size."""
    return SILENCE_S + piece_bytes / SLOWEST_BYTES_PER_S


def call(fs: Any, method: str, *args: Any, progress: Progress, **kwargs: Any) -> Any:
    """Call a method of a file system of fsspec, and end it when it is silent for too long.

    Raises:
        SilenceError: The time limit has passed.
    """
    if fs.async_impl:
        coroutine = getattr(fs, f"_{method}")(*args, **kwargs)
        future = asyncio.run_coroutine_threadsafe(coroutine, fs.loop)
    else:
        future = _in_thread(lambda: getattr(fs, method)(*args, **kwargs))
    try:
        while not future.done():
            left_s = progress.left_s()
            if left_s <= 0:
                raise SilenceError(f"no answer for {progress._limit_s:.0f} s")
            try:
                return future.result(timeout=left_s)
            except TimeoutError:
                continue  # of this wait, or the call's own, which `result` raises below
        return future.result()
    finally:
        future.cancel()


def _in_thread(action: Callable[[], Any]) -> Future[Any]:
    """The result of an action in a thread that does not keep the process alive if it hangs."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(action())
        except BaseException as exc:
            future.set_exception(exc)

    future.set_running_or_notify_cancel()
    threading.Thread(target=run, daemon=True, name="storage").start()
    return future


class Repeater:
    """Makes the calls of one store again where that may help."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._has_answered = False
        self.num_repeats = 0
        """Calls that were made again."""

    def __call__(self, action: Callable[[], _Answer], where: str) -> _Answer:
        """Result of an action, which is repeated while its errors may pass.

        Args:
            where: What is read or written, for the line that is logged.

        Raises:
            Exception: The error of the last try, or one that will not pass.
        """
        start = time.monotonic()
        for index, pause_s in enumerate(_pauses()):
            try:
                answer = action()
            except Exception as exc:
                self._has_answered |= http_status(exc) is not None
                patience_s = PATIENCE_S if self._has_answered else min(FIRST_PATIENCE_S, PATIENCE_S)
                passed_s = time.monotonic() - start
                is_over = passed_s + pause_s > patience_s and (index or PATIENCE_S == 0)
                if not is_transient(exc) or is_over:
                    raise
                left_s = max(patience_s - passed_s, pause_s)
                reason = explain(exc, about=self._url).partition("; ")[0]
                log.warning("%s: %s; trying again for %.0f s", where, reason, left_s)
                time.sleep(pause_s)
                self.num_repeats += 1
            else:
                self._has_answered = True
                return answer
        raise AssertionError("there is always another pause")


def is_transient(exc: BaseException) -> bool:
    """Whether the same call may succeed in a while."""
    if isinstance(exc, FileNotFoundError | FileExistsError | PermissionError):
        return False
    # By type first: an answer that breaks off has a status of its library's own, and S3 calls an
    # upload that took too long a wrong request.
    for cause in causes(exc):
        names = {base.__name__ for base in type(cause).__mro__}
        if isinstance(cause, ConnectionError | TimeoutError) or names & _TRANSIENT_NAMES:
            return True
    return http_status(exc) in _TRANSIENT_STATUSES


def _pauses() -> Iterator[float]:
    """Seconds before the next try: doubled each time, half of them by chance, so that workers who
    failed together do not come back together."""
    longest_s = FIRST_PAUSE_S
    while True:
        yield longest_s * (0.5 + _CHANCE.random() / 2)
        longest_s = min(2 * longest_s, LONGEST_PAUSE_S)
