import errno
import os
import stat
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem

from manifests.storage.errors import StoreError
from manifests.storage.store import Store
from tests.sets import refused, tree


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "set"))


@pytest.fixture
def memory() -> Iterator[Store]:
    """A store that can be read and not written to, with one file."""
    files = fsspec.filesystem("memory")
    files.pipe_file("/set/data/a.tar", b"0123456789")
    yield Store("memory://set")
    files.rm("/set", recursive=True)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("nowhere://KEY:SECRET@bucket/set", ["nowhere://bucket/set", "known schemes: ", "s3"]),
        ("simplecache::s3://KEY:SECRET@bucket/set", ["bucket/set", "give one plain URL"]),
        ("pipe:curl https://KEY:SECRET@host/a.tar", ["pipe:curl", "give one plain URL"]),
        ("pipe:cat a.tar", ["pipe:cat a.tar", "give one plain URL"]),
    ],
)
def test_a_url_that_is_not_read_is_refused_without_its_credentials(
    url: str, parts: list[str]
) -> None:
    with refused(StoreError, *parts):
        Store(url)
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert "SECRET" not in str(caught.value)


class Unlucky(AbstractFileSystem):
    """A library that raises errors of its own, as those of object stores do."""

    protocol = "unlucky"

    def cat_file(self, path: str, **options: object) -> bytes:
        raise RuntimeError(f"no luck with {path}\n  see the manual")


def test_an_error_of_the_library_of_another_scheme_is_one_line() -> None:
    fsspec.register_implementation("unlucky", Unlucky, clobber=True)
    told = "no luck with bucket/set/a see the manual; look at it and try again"
    with refused(StoreError, f"unlucky://bucket/set/a: {told}"):
        Store("unlucky://bucket/set").read("a")
    with refused(StoreError, "unlucky://bucket/set/a: RuntimeError; look at it"):
        Store("unlucky://KEY:SECRET@bucket/set").read("a")


def test_a_bug_in_reading_is_no_fault_of_the_storage(store: Store) -> None:
    store.create("a", b"")
    with pytest.raises(ZeroDivisionError), store.open("a"):
        _ = 1 / 0


@pytest.mark.parametrize("path", ["/etc/passwd", "../other", "data/../../other", ".."])
def test_a_path_that_leaves_the_set_is_refused(store: Store, path: str) -> None:
    for call in (store.read, store.exists, store.delete, store.list, store.sweep):
        with refused(StoreError, path, "is relative and has no '..'"):
            call(path)
    with refused(StoreError, path, "is relative and has no '..'"):
        store.create(path, b"")
    with refused(StoreError, path, "is relative and has no '..'"), store.open(path):
        pass


def test_a_file_is_created_once_and_never_overwritten(store: Store) -> None:
    assert store.create("data/a.tar", b"first")
    assert not store.create("data/a.tar", b"second")
    assert tree(store.url) == {"data/a.tar": b"first"}


def test_a_file_is_created_from_a_local_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_bytes(b"content")
    assert store.create("data/a.tar", tmp_path / "scratch")
    assert tree(store.url) == {"data/a.tar": b"content"}


def test_reading(store: Store) -> None:
    store.create("data/a.tar", b"0123456789")
    assert store.read("data/a.tar") == b"0123456789"
    assert store.read_range("data/a.tar", 2, 3) == b"234"
    assert store.read_range("data/a.tar", 8, 5) == b"89"
    with store.open("data/a.tar") as file:
        assert file.read(4) == b"0123"
    assert store.exists("data/a.tar")
    assert not store.exists("data/b.tar")


def test_a_missing_file_is_a_file_not_found_error(store: Store) -> None:
    for call in (store.read, lambda path: store.read_range(path, 0, 1)):
        with pytest.raises(FileNotFoundError):
            call("data/a.tar")
    with pytest.raises(FileNotFoundError), store.open("data/a.tar"):
        pass


def test_a_folder_that_does_not_exist_is_empty(store: Store) -> None:
    assert store.list() == store.list("data") == {}
    assert store.names() == ()
    store.sweep("data")
    store.delete("data/a.tar")


def test_list_tells_sizes_in_order_without_folders_and_temporary_files(store: Store) -> None:
    for path in ("b", "a", "data/c", "data/.tmp-d-00"):
        store.create(path, b"12345")
    assert list(store.list().items()) == [("a", 5), ("b", 5)]
    assert store.list("data") == {"data/c": 5}
    assert store.names() == ("a", "b", "data")


def test_sweep_removes_temporary_files_of_one_folder(store: Store) -> None:
    for path in ("data/.tmp-a-00", "data/b", ".tmp-c-00"):
        store.create(path, b"")
    store.sweep("data")
    assert list(tree(store.url)) == [".tmp-c-00", "data/b"]


def test_a_temporary_file_that_is_swept_meanwhile_is_written_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another writer of the same set, which seals it while this one is not done."""
    link, sweeps = os.link, iter(["data"])

    def swept_link(source: Path, target: Path) -> None:
        for folder in sweeps:  # once
            store.sweep(folder)
        link(source, target)

    monkeypatch.setattr(os, "link", swept_link)
    assert store.create("data/a.tar", b"content")
    assert tree(store.url) == {"data/a.tar": b"content"}


def test_replace_writes_over_an_advisory_file(store: Store) -> None:
    store.replace("failed/000000.json", b"old")
    store.replace("failed/000000.json", b"new")
    assert tree(store.url) == {"failed/000000.json": b"new"}


def test_files_are_readable_for_others_as_the_umask_says(store: Store) -> None:
    old = os.umask(0o022)
    try:
        store.create("a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE(Path(store.url, "a").stat().st_mode) == 0o644


def test_url_is_shown_without_a_slash_at_its_end(tmp_path: Path) -> None:
    assert Store(f"{tmp_path}/").at("data/a.tar") == f"{tmp_path}/data/a.tar"
    assert Store(f"file://{tmp_path}/").create("a", b"")
    assert tree(tmp_path) == {"a": b""}


def test_another_scheme_is_read(memory: Store) -> None:
    assert memory.list("data") == {"data/a.tar": 10}
    assert memory.names() == ("data",)
    assert memory.read("data/a.tar") == b"0123456789"
    assert memory.read_range("data/a.tar", 2, 3) == b"234"
    with memory.open("data/a.tar") as file:
        assert file.read() == b"0123456789"


def test_a_web_server_that_lists_no_sizes_is_asked_for_them(tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: object) -> None:
            pass

    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.tar").write_bytes(b"0123456789")
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        store = Store(f"http://127.0.0.1:{server.server_port}")
        assert store.list("data") == {"data/a.tar": 10}
        server.shutdown()
        thread.join()


def test_a_scheme_without_conditional_writes_is_not_written_to(memory: Store) -> None:
    for call in (lambda: memory.create("a", b""), memory.require_creatable):
        with refused(StoreError, "memory://set", "may overwrite", "a URL of s3, gs or az"):
            call()
    assert memory.names() == ("data",)


def test_nothing_is_deleted_outside_of_local_folders(memory: Store) -> None:
    calls = [
        lambda: memory.replace("data/a.tar", b""),
        lambda: memory.delete("data/a.tar"),
        memory.require_writable,
    ]
    for call in calls:
        with refused(StoreError, "memory://set", "local folders only", "synth publish FOLDER URL"):
            call()
    memory.sweep("data")  # nothing is left over there
    assert memory.list("data") == {"data/a.tar": 10}


def test_a_store_holds_what_lies_in_it_and_itself(tmp_path: Path) -> None:
    folder, link = tmp_path / "set", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    store = Store(str(folder))
    for inside in (folder, f"file://{folder}/", link, folder / "copy", link / "a/b"):
        assert store.holds(Store(str(inside)))
    for outside in (tmp_path, tmp_path / "set-2", "s3://set", f"memory://{folder}"):
        assert not store.holds(Store(str(outside)))
    assert Store("s3://a/set").holds(Store("s3a://a/set/b"))
    assert not Store("s3://a/set").holds(Store("s3://a/set2"))


def test_a_local_file_has_a_path_and_another_has_none(store: Store, memory: Store) -> None:
    assert store.local_path("data/a.tar") == Path(store.url, "data/a.tar")
    assert memory.local_path("data/a.tar") is None


def test_a_file_where_a_folder_is_needed_is_told(store: Store) -> None:
    store.create("data", b"")
    advice = "a file stands where a folder is needed; choose another one"
    for call in (store.read, lambda path: store.create(path, b"")):
        with refused(StoreError, f"{store.url}/data/a.tar", advice):
            call("data/a.tar")


def test_a_folder_where_a_file_is_needed_is_told(store: Store) -> None:
    store.create("recipe.json/a", b"")
    with refused(StoreError, f"{store.url}/recipe.json", "a folder stands where a file is needed"):
        store.read("recipe.json")


def test_a_name_that_is_too_long_is_told(store: Store) -> None:
    with refused(StoreError, "choose a shorter folder"):
        store.create(f"{'a' * 300}/b", b"")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space and run the same command again"),
        (errno.EDQUOT, "raise the quota and run the same command again"),
        (errno.EACCES, "make the folder writable for this user"),
        (errno.EPERM, "not writable or its file system has no hard links; choose another"),
        (errno.EROFS, "the file system is read-only; choose another folder"),
        (errno.EIO, "look at it and try again"),
    ],
)
@pytest.mark.parametrize("call", ["link", "fsync"])
def test_what_the_storage_refuses_is_one_line_and_leaves_nothing_half_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, code: int, advice: str
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with refused(StoreError, f"{store.url}/data/a.tar", os.strerror(code), advice):
            store.create("data/a.tar", b"content")
    assert tree(store.url) == {}
    assert store.create("data/a.tar", b"content")
    assert tree(store.url) == {"data/a.tar": b"content"}


def test_server_that_ignores_ranges_is_refused(tmp_path: Path) -> None:
    """It answers with the whole file; its first bytes would pass for those that were asked for."""
    (tmp_path / "a").write_bytes(bytes(100))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            store = Store(f"http://127.0.0.1:{server.server_port}")
            with refused(StoreError, "/a", "range requests"):
                store.read_range("a", 10, 5)
        finally:
            server.shutdown()
