"""Object stores: a real S3 server, a server that misbehaves, and answers of other libraries."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from manifests.storage import Store, calls, open_store
from manifests.storage.answers import explain, http_status
from manifests.storage.errors import StoreError
from manifests.storage.objects import PART_BYTES, ObjectStore
from manifests.storage.testing import StoreLaws
from tests.object_store import s3_clients_of, s3_server
from tests.sets import refused
from tests.virtual_bucket import VirtualBucket, virtual_bucket

NUMBERS = count()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An S3 server with one empty bucket, `sets`."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address, s3_clients_of(address):
        fsspec.filesystem("s3").mkdir("sets")
        yield


@pytest.mark.usefixtures("bucket")
class TestLaws(StoreLaws):
    def empty_store(self) -> Store:
        store = open_store(f"s3://sets/{next(NUMBERS)}/set")
        assert isinstance(store, ObjectStore)
        return store


@pytest.mark.usefixtures("bucket")
def test_unfinished_uploads_are_named_and_ended() -> None:
    """Of a folder beside the set, whose name begins like its own, nothing is touched."""
    root = f"{next(NUMBERS)}/set"
    store, files = open_store(f"s3://sets/{root}"), fsspec.filesystem("s3")
    keys = [f"{root}/data/000000.tar", f"{root}/data/000001.tar", f"{root}2/data/000000.tar"]
    begun = [
        files.call_s3("create_multipart_upload", Bucket="sets", Key=key)["UploadId"] for key in keys
    ]
    files.call_s3(
        "upload_part", Bucket="sets", Key=keys[0], UploadId=begun[0], PartNumber=1, Body=b"half"
    )
    expected = {begun[0]: "data/000000.tar", begun[1]: "data/000001.tar"}
    assert store.unfinished() == expected
    for upload, path in expected.items():
        store.abort(upload, path)
        store.abort(upload, path)  # it is gone, which is no error
    assert store.unfinished() == {}
    assert [*open_store(f"s3://sets/{root}2").unfinished()] == begun[2:]


def test_a_page_of_a_listing_that_breaks_is_asked_for_again_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a thousand pages one always breaks; a listing that begins anew would never end."""
    monkeypatch.setattr(calls, "FIRST_PAUSE_S", 0.0)
    names = [f"{number:06d}.tar" for number in range(95)]
    bucket = VirtualBucket({"set/data": names}, lambda key: None, 10, refused=frozenset({4}))
    with virtual_bucket(bucket):
        store = open_store("s3://sets/set")
        assert [*store.files("data")] == [f"data/{name}" for name in names]
        assert bucket.requests == ["LIST set/data/"] * (10 + 1)
        assert store.num_repeats == 1
        assert store.list("data") == dict.fromkeys((f"data/{name}" for name in names), 1)
        assert [*store.files("stats")] == []


@contextmanager
def misbehaving_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[None]:
    """A server for the S3 clients of this process, which answers every request in the same way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            with s3_clients_of(f"http://127.0.0.1:{server.server_port}"):
                yield
        finally:
            server.shutdown()


def test_a_refused_listing_names_the_credentials() -> None:
    """The error of the library says nothing but `None`."""

    def refuse(request: BaseHTTPRequestHandler) -> None:
        request.send_response(403)
        request.send_header("Content-Length", "0")
        request.end_headers()

    with misbehaving_server(refuse):
        store = open_store("s3://bucket/set")
        for call in (store.list, lambda: store.read("a"), lambda: store.exists("a")):
            with pytest.raises(StoreError) as caught:
                call()
            message = str(caught.value)
            assert "access was refused (HTTP 403)" in message
            assert "look at the credentials" in message
            assert "None" not in message


def after(exc: Exception, before: Exception) -> Exception:
    """An exception that was raised while another one was handled."""
    exc.__context__ = before
    return exc


def skewed() -> Exception:
    """As s3fs raises what S3 answers to a request of another time."""
    text = "The difference between the request time and the current time is too large."
    error = {"Error": {"Code": "RequestTimeTooSkewed", "Message": text}}
    return translate_boto_error(ClientError(error, "PutObject"))


@pytest.mark.parametrize(
    ("exc", "start"),
    [
        (PermissionError(None), "access was refused; look at the credentials"),
        (skewed(), "the clock of this machine is wrong (The difference between"),
        (PermissionError("Access Denied"), "access was refused: Access Denied; look"),
        (OSError(errno.EIO, "x"), "[Errno 5] x; run the same command again"),
        (after(IndexError("tuple index out of range"), TimeoutError()), "the storage stopped"),
        (
            after(IndexError("tuple index out of range"), ConnectionResetError("reset by peer")),
            "reading failed (reset by peer); run the same command again",
        ),
        (KeyError("size"), "reading failed (KeyError in its library); run the same command again"),
    ],
)
def test_an_error_of_a_library_is_explained(exc: Exception, start: str) -> None:
    assert explain(exc, about="s3://bucket/set").startswith(start)


class BotoError(Exception):
    """Has the status of the answer where botocore has it."""

    def __init__(self, status: int) -> None:
        super().__init__("refused by the server")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": "x"}}


class CodedError(Exception):
    """Has the status of the answer in an attribute of any name."""

    def __init__(self, **attributes: object) -> None:
        super().__init__("refused by the server")
        self.__dict__.update(attributes)


def caused(exc: Exception, cause: Exception) -> Exception:
    exc.__cause__ = cause
    return exc


@pytest.fixture
def store() -> Store:
    return open_store("s3://bucket/set")


async def is_absent(path: str, **options: object) -> bytes:
    raise FileNotFoundError(path)


def refuse_with(store: Store, monkeypatch: pytest.MonkeyPatch, exc: Exception) -> None:
    async def refuse(*args: object, **options: object) -> None:
        raise exc

    monkeypatch.setattr(calls, "PATIENCE_S", 0)
    monkeypatch.setattr(store._fs, "_cat_file", is_absent)
    for name in ("_pipe_file", "_put_file"):
        monkeypatch.setattr(store._fs, name, refuse)


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (caused(OSError(errno.EINVAL, None), BotoError(412)), 412),
        (CodedError(status_code=409), 409),
        (CodedError(code="412"), 412),
        (CodedError(code=None, status=403), 403),
        (OSError(errno.EINVAL, "what"), None),
    ],
)
def test_the_status_is_read_from_the_exception_of_every_library(
    exc: Exception, status: int | None
) -> None:
    assert http_status(exc) == status


CONFLICTS: dict[str, Callable[[], Exception]] = {
    "S3 server that names the condition": FileExistsError,
    "S3 server that does not": lambda: caused(OSError(errno.EINVAL, None), BotoError(412)),
    "S3 server that is busy with another writer": lambda: caused(
        OSError(errno.EIO, "x"), BotoError(409)
    ),
    "another library": lambda: CodedError(code=412),
}


@pytest.mark.parametrize("made", CONFLICTS.values(), ids=CONFLICTS)
def test_create_returns_false_for_a_conflict_of_any_python_type(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: Callable[[], Exception]
) -> None:
    (tmp_path / "a").write_bytes(b"content")
    refuse_with(store, monkeypatch, made())
    assert not store.create("a", b"content")
    assert not store.create("a", tmp_path / "a")


@pytest.mark.parametrize(
    ("exc", "parts"),
    [
        (PermissionError("Access Denied"), ["Access Denied", "look at the credentials"]),
        (caused(OSError("x"), BotoError(403)), ["look at the credentials"]),
        (
            caused(OSError(errno.EBUSY, "Slow\ndown"), BotoError(503)),
            ["Slow down", "run the same command again"],
        ),
        (FileNotFoundError("bucket"), ["there is no such bucket; make it"]),
    ],
)
def test_any_other_answer_is_an_error_of_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch, exc: Exception, parts: list[str]
) -> None:
    refuse_with(store, monkeypatch, exc)
    with refused(StoreError, "s3://bucket/set/a", *parts):
        store.create("a", b"content")


def test_the_answer_is_left_out_if_the_url_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("s3://KEY:SECRET@bucket/set")
    refuse_with(store, monkeypatch, OSError(errno.EIO, "not with SECRET"))
    with refused(StoreError, "s3://bucket/set/a: OSError; run the same command again"):
        store.create("a", b"")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://bucket/set", {"chunksize": 16 << 20, "max_concurrency": 2}),
        ("gs://bucket/set", {"chunksize": 16 << 20}),
        ("az://bucket/set", {}),
    ],
)
def test_every_upload_carries_the_condition(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, options: dict[str, int]
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "nobody")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90aGluZw==")
    monkeypatch.setattr("google.auth.default", lambda **scopes: (None, "nothing"))
    store, sent = open_store(url), []

    async def note(*args: object, callback: object = None, **keywords: Any) -> None:
        sent.append((args, keywords))

    monkeypatch.setattr(store._fs, "_cat_file", is_absent)
    for name in ("_pipe_file", "_put_file"):
        monkeypatch.setattr(store._fs, name, note)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"small")
    with large.open("wb") as file:
        file.truncate(PART_BYTES + 1)
    assert store.create("a", b"")
    assert store.create("b", small)
    assert store.create("c", large)
    assert sent == [
        (("bucket/set/a", b""), {"mode": "create"}),
        (("bucket/set/b", b"small"), {"mode": "create"}),
        ((str(large), "bucket/set/c"), {"mode": "create", **options}),
    ]
