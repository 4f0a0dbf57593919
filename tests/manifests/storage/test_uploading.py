import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifests.storage.errors import StoreError
from manifests.storage.store import Store
from manifests.storage.uploading import http_status
from tests.sets import refused


class BotoError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("told by the server")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": "x"}}


class CodedError(Exception):
    def __init__(self, **attributes: object) -> None:
        super().__init__("told by the server")
        self.__dict__.update(attributes)


def caused(exc: Exception, cause: Exception) -> Exception:
    exc.__cause__ = cause
    return exc


@pytest.fixture
def store() -> Store:
    return Store("s3://bucket/set")


def refuse_with(store: Store, monkeypatch: pytest.MonkeyPatch, exc: Exception) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise exc

    monkeypatch.setattr(store._fs, "exists", lambda path: False)
    for name in ("pipe_file", "put_file"):
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
def test_the_answer_of_the_server_is_found(exc: Exception, status: int | None) -> None:
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
def test_a_conflict_is_false_whatever_its_python_type(
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
        (caused(OSError(errno.EBUSY, "Slow\ndown"), BotoError(503)), ["Slow down", "try again"]),
        (FileNotFoundError("bucket"), ["there is no such bucket; make it"]),
    ],
)
def test_another_answer_is_told_in_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch, exc: Exception, parts: list[str]
) -> None:
    refuse_with(store, monkeypatch, exc)
    with refused(StoreError, "s3://bucket/set/a", *parts):
        store.create("a", b"content")


def test_the_answer_is_left_out_if_the_url_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("s3://KEY:SECRET@bucket/set")
    refuse_with(store, monkeypatch, OSError(errno.EIO, "not with SECRET"))
    with refused(StoreError, "s3://bucket/set/a: OSError; look at it"):
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
    store, sent = Store(url), []

    def note(*args: object, **keywords: Any) -> None:
        sent.append((args, keywords))

    monkeypatch.setattr(store._fs, "exists", lambda path: False)
    for name in ("pipe_file", "put_file"):
        monkeypatch.setattr(store._fs, name, note)
    assert store.create("a", b"")
    assert store.create("b", tmp_path / "b")
    assert sent == [
        (("bucket/set/a", b""), {"mode": "create"}),
        ((str(tmp_path / "b"), "bucket/set/b"), {"mode": "create", **options}),
    ]
