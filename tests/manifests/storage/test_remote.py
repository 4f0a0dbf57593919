from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread

import fsspec
import pytest
from fsspec import AbstractFileSystem

from manifests.storage import Store, open_store
from manifests.storage.errors import StoreError
from manifests.storage.remote import RemoteStore
from manifests.storage.testing import ReadingLaws
from tests.running import start
from tests.sets import refused

NUMBERS = count()


def memory_store(files: Mapping[str, bytes]) -> Store:
    """A new store with these files that can only be read."""
    name = f"set{next(NUMBERS)}"
    for path, content in files.items():
        fsspec.filesystem("memory").pipe_file(f"/{name}/{path}", content)
    return open_store(f"memory://{name}")


class TestLaws(ReadingLaws):
    def store_with(self, files: Mapping[str, bytes]) -> Store:
        return memory_store(files)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serve a folder with listings and without range requests; yields the address."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("nowhere://KEY:SECRET@bucket/set", ["nowhere://bucket/set", "known schemes: ", "s3"]),
        ("simplecache::s3://KEY:SECRET@bucket/set", ["bucket/set", "give one plain URL"]),
        ("pipe:curl https://KEY:SECRET@host/a.tar", ["pipe:curl", "give one plain URL"]),
        ("pipe:cat a.tar", ["pipe:cat a.tar", "give one plain URL"]),
        ("s3:/KEY:SECRET@bucket/set", ["s3:/bucket/set", "a URL begins with s3://"]),
        (
            "ftp://KEY:SECRET@127.0.0.1:1/x",
            ["ftp://127.0.0.1:1/x: cannot be opened (ConnectionRefusedError); look at"],
        ),
        (
            "github://x",
            ["github://x: cannot be opened (", "'org' and 'repo'", "look at the address"],
        ),
    ],
)
def test_a_url_that_cannot_be_opened_is_one_line_without_its_secrets(
    url: str, parts: list[str]
) -> None:
    with refused(StoreError, *parts):
        open_store(url)
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://u:SECRET@127.0.0.1:1/x", "github://x?token=SECRET"])
def test_verify_of_a_url_that_cannot_be_opened_is_no_traceback(url: str) -> None:
    with start("verify", url) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith("Error: ")
    assert len(output.splitlines()) == 1
    assert "SECRET" not in output


class Unlucky(AbstractFileSystem):
    """A library that raises errors of its own, as those of object stores do."""

    protocol = "unlucky"

    def cat_file(self, path: str, **options: object) -> bytes:
        raise RuntimeError(f"no luck with {path}\n  see the manual")


def test_an_error_of_the_library_of_another_scheme_is_one_line() -> None:
    fsspec.register_implementation("unlucky", Unlucky, clobber=True)
    with refused(
        StoreError,
        "unlucky://bucket/set/a: no luck with bucket/set/a see the manual; run the same command",
    ):
        open_store("unlucky://bucket/set").read("a")
    with refused(StoreError, "unlucky://bucket/set/a: RuntimeError; run the same command"):
        open_store("unlucky://KEY:SECRET@bucket/set").read("a")


def test_an_error_of_the_code_that_reads_is_not_turned_into_a_store_error() -> None:
    with pytest.raises(ZeroDivisionError), memory_store({"a": b"1"}).open("a"):
        _ = 1 / 0


def test_a_scheme_without_conditional_writes_is_not_written_to() -> None:
    memory = memory_store({"data/a.tar": b"1"})
    for call in (lambda: memory.create("a", b""), memory.require_creatable):
        with refused(StoreError, memory.url, "may overwrite", "a URL of s3, gs, az or sftp"):
            call()
    assert memory.names() == ("data",)
    assert memory.local_path("data/a.tar") is None


def test_a_store_holds_what_lies_in_it_whatever_the_spelling() -> None:
    assert open_store("s3://a/set").holds(open_store("s3a://a/set/b"))
    assert not open_store("s3://a/set").holds(open_store("s3://a/set2"))
    assert not open_store("s3://a/set").holds(open_store("memory://a/set"))


def test_sizes_that_the_listing_of_a_web_server_lacks_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.tar").write_bytes(b"0123456789")
    with web_server(tmp_path) as address:
        store = open_store(address)
        assert isinstance(store, RemoteStore)
        assert store.list("data") == {"data/a.tar": 10}
        assert store.read("data/a.tar") == b"0123456789"


def test_a_server_that_ignores_ranges_is_refused(tmp_path: Path) -> None:
    """It answers with the whole file, whose first bytes would be taken for the requested range."""
    (tmp_path / "a").write_bytes(bytes(100))
    with (
        web_server(tmp_path) as address,
        refused(StoreError, f"{address}/a", "range requests"),
    ):
        open_store(address).read_range("a", 10, 5)
