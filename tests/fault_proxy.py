"""A proxy on loopback between a client and an S3 server, which breaks what it is told to break."""

import http.client
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

import fsspec

from tests.object_store import s3_clients_of, s3_server

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Slow down.</Message></Error>"
)
FAULTS = (
    *("slow-down", "error", "reset"),  # instead of an answer
    *("silence", "stall", "cut", "flip", "lost"),  # of a request or an answer that arrives
)


@dataclass
class Faults:
    """What to break; a rule is used up after its number of requests."""

    upstream: str
    """Address of the server."""
    fault: str = ""
    is_hit: Callable[[str, str], bool] = lambda method, path: False
    """Whether a request of this method and path, with its query, is broken."""
    times: int = 0
    num_requests: int = 0
    num_broken: int = 0
    """Of all requests, whatever was planned."""
    requests: list[str] = field(default_factory=list)
    """All that came, such as `GET /bucket/key`."""
    over: Event = field(default_factory=Event)
    """Set at the end: lets go of connections that are silent."""
    _lock: Lock = field(default_factory=Lock)

    def plan(self, fault: str, is_hit: Callable[[str, str], bool], times: int) -> None:
        """Break the next requests that are hit."""
        with self._lock:
            self.fault, self.is_hit, self.times = fault, is_hit, times
            self.requests.clear()

    def has_had(self, num_requests: int) -> bool:
        """Whether so many requests have come, whatever was planned."""
        return self.num_requests >= num_requests

    def take(self, method: str, path: str) -> str:
        """The fault of a request, empty for none."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            self.num_requests += 1
            if not self.times or not self.is_hit(method, path):
                return ""
            self.times -= 1
            self.num_broken += 1
            return self.fault


class _Handler(BaseHTTPRequestHandler):
    faults: Faults
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self._body()
        fault = self.faults.take(self.command, self.path)
        if fault == "slow-down":
            return self._send(503, {}, SLOW_DOWN)
        if fault == "error":
            return self._send(500, {}, b"")
        if fault == "reset":
            return self._reset()
        if fault == "silence":
            self.faults.over.wait()
            return self._reset()
        upstream = urlsplit(self.faults.upstream)
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
        if fault == "ignore-condition":  # as some servers do
            headers.pop("If-None-Match", None)
        connection.request(self.command, self.path, body=body, headers=headers)
        response = connection.getresponse()
        data, answered = response.read(), dict(response.getheaders())
        connection.close()
        if fault == "lost":
            return self._reset()
        if fault == "flip" and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        sent = data[: len(data) // 2] if fault in ("stall", "cut") else data
        self._send(response.status, answered, sent, length=len(data))
        if fault == "stall":
            self.faults.over.wait()
        if fault in ("stall", "cut"):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, length: int | None = None
    ) -> None:
        self.send_response_only(status)
        skipped = ("content-length", "transfer-encoding", "connection")
        for name, value in headers.items():
            # Not all servers send checksums, so no client may count on them.
            if name.lower() not in skipped and not name.lower().startswith("x-amz-checksum"):
                self.send_header(name, value)
        stated = headers.get("Content-Length", headers.get("content-length"))
        if self.command != "HEAD" or stated is None:
            stated = str(len(body) if length is None else length)
        self.send_header("Content-Length", stated)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # closed with RST, not with FIN
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that has given up is what is tested here."""


@contextmanager
def faulty_bucket(folder: Path) -> Iterator[Faults]:
    """An S3 server with the empty bucket `sets` behind a proxy, for all clients of this process and
    of those that it starts."""
    with (
        s3_server(folder) as server,
        fault_proxy(server) as (address, faults),
        s3_clients_of(address),
    ):
        fsspec.filesystem("s3").mkdir("sets")
        yield faults


@contextmanager
def fault_proxy(upstream: str) -> Iterator[tuple[str, Faults]]:
    """Gives the address of the proxy, and what it breaks."""
    faults = Faults(upstream)
    handler = type("Handler", (_Handler,), {"faults": faults})
    with _Server(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", faults
        finally:
            faults.over.set()
            server.shutdown()
