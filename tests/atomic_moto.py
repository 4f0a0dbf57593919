"""moto's server with one request at a time, run as a program.

A store compares and writes in one step where a condition is given. moto does both in threads
without a lock, so on a busy machine two writers of one name could both succeed.
"""

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_one_at_a_time = Lock()
_moto = DomainDispatcherApplication(create_backend_app)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with _one_at_a_time:
        return list(_moto(environ, start_response))


if __name__ == "__main__":
    run_simple("127.0.0.1", 0, application, threaded=True)
