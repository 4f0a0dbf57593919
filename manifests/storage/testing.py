"""The laws of `manifests.storage` as tests, for any backend.

    class TestMyStore(StoreLaws):
        def empty_store(self) -> Store:
            return MyStore(f"mine://somewhere/{next(numbers)}")

pytest collects the laws in the subclass. For a backend that is only read, subclass `ReadingLaws`.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

from manifests.storage import Store
from manifests.storage.errors import StoreError

CONTENT = bytes(range(256)) * 8
REPLACED_BYTES = 4 << 20
"""Less than is asked for at once: of a larger file, two requests may read two versions."""
OUTSIDE = ("/etc/passwd", "../other", "data/../../other", "..", "data/\0")


def refusal(call: Callable[[], Any]) -> str:
    """The message with which a store refuses a call; fails if the call succeeds."""
    try:
        call()
    except StoreError as exc:
        message = str(exc)
        assert message
        assert message.isprintable(), f"not one line: {message!r}"
        return message
    raise AssertionError("expected a StoreError, and nothing was raised")


def read_open(store: Store, path: str) -> bytes:
    """Content of a file that is read through `open` in small pieces."""
    with store.open(path) as file:
        return b"".join(iter(lambda: file.read(100), b""))


def is_missing(call: Callable[[], Any]) -> bool:
    """Whether a call raises FileNotFoundError."""
    try:
        call()
    except FileNotFoundError:
        return True
    return False


class ReadingLaws:
    """The laws of every store, also of one that is only read."""

    def store_with(self, files: Mapping[str, bytes]) -> Store:
        """A new store that holds these files and nothing else."""
        raise NotImplementedError

    def test_every_way_of_reading_gives_the_same_bytes(self) -> None:
        store = self.store_with({"data/a.tar": CONTENT, "empty": b""})
        assert store.read("data/a.tar") == read_open(store, "data/a.tar") == CONTENT
        assert store.read("empty") == read_open(store, "empty") == b""
        size = len(CONTENT)
        for offset, length in ((0, size), (7, 100), (7, 0), (size - 3, 10), (size, 5), (9999, 1)):
            expected = CONTENT[offset : offset + length]
            assert store.read_range("data/a.tar", offset, length) == expected, (offset, length)

    def test_listed_files_exist_and_have_the_listed_sizes(self) -> None:
        files = {"b": b"12345", "a": b"", "data/c": CONTENT, "data/deeper/d": b"1"}
        store = self.store_with(files)
        assert list(store.list().items()) == [("a", 0), ("b", 5)]
        assert store.list("data") == {"data/c": len(CONTENT)}
        assert store.list("data/deeper") == {"data/deeper/d": 1}
        assert sorted(store.files()) == ["a", "b"]
        assert [*store.files("data")] == ["data/c"]
        assert store.names() == ("a", "b", "data")
        assert store.names("data") == ("c", "deeper")
        assert all(store.exists(path) for path in files)
        assert [store.size(path) for path in files] == [len(data) for data in files.values()]

    def test_when_a_file_was_written_is_said_by_the_clock_of_the_storage(self) -> None:
        written_at = self.store_with({"a": b"1"}).modified("a")
        assert written_at is None or abs(written_at - time.time()) < 3600

    def test_an_absent_file_is_not_found_and_an_absent_folder_is_empty(self) -> None:
        store = self.store_with({"data/a.tar": b"1"})
        for call in (store.read, store.size, lambda path: store.read_range(path, 0, 1)):
            assert is_missing(lambda call=call: call("data/b.tar"))  # type: ignore[misc]
        assert is_missing(lambda: read_open(store, "data/b.tar"))
        assert is_missing(lambda: store.modified("data/b.tar"))
        assert not store.exists("data/b.tar")
        assert store.list("manifests") == {}

    def test_a_path_that_leaves_the_store_is_refused(self) -> None:
        store = self.store_with({"a": b"1"})
        calls: tuple[Callable[[str], Any], ...] = (
            store.read,
            store.size,
            store.exists,
            store.list,
            lambda path: store.read_range(path, 0, 1),
            lambda path: read_open(store, path),
        )
        for path in OUTSIDE:
            for call in calls:
                refusal(lambda call=call, path=path: call(path))  # type: ignore[misc]

    def test_a_read_has_a_bound(self) -> None:
        store = self.store_with({"a": CONTENT})
        assert store.read("a", max_bytes=len(CONTENT)) == CONTENT
        assert store.at("a") in refusal(lambda: store.read("a", max_bytes=len(CONTENT) - 1))
        for offset, length in ((-5, 1), (0, -1), (0, 1 << 62)):
            assert store.at("a") in refusal(
                lambda offset=offset, length=length: store.read_range(  # type: ignore[misc]
                    "a", offset, length
                )
            )

    def test_a_store_holds_itself(self) -> None:
        store = self.store_with({"a": b"1"})
        assert store.holds(store)

    def test_what_a_store_cannot_do_is_refused(self) -> None:
        store = self.store_with({"a": b"1"})
        if not store.can_create:
            refusal(lambda: store.create("b", b"2"))
            refusal(lambda: store.replace("a", b"2"))
            refusal(store.require_creatable)
        if not store.can_delete:
            refusal(lambda: store.delete("a"))
        if not store.lists_temporaries:
            store.sweep("")
        assert store.list() == {"a": 1}


class StoreLaws(ReadingLaws):
    """The laws of a store in which sets can be made."""

    num_races = 5
    large_bytes = 4 << 20
    """Size of a large file. A store that sends files in parts gives more than one part."""

    def empty_store(self) -> Store:
        """A new empty store at each call."""
        raise NotImplementedError

    def store_with(self, files: Mapping[str, bytes]) -> Store:
        store = self.empty_store()
        for path, content in files.items():
            assert store.create(path, content)
        return store

    def test_an_empty_store_has_no_names(self) -> None:
        store = self.empty_store()
        assert store.can_create
        assert (store.names(), store.list(), store.exists("a")) == ((), {}, False)

    def test_a_file_is_created_once_and_never_overwritten(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch, "content")
            for first in (CONTENT, b""):
                store = self.empty_store()
                assert store.create("data/a", first)
                for second in (b"second", b""):
                    local.write_bytes(second)
                    assert not store.create("data/a", second)
                    assert not store.create("data/a", local)
                assert store.read("data/a") == first
                assert store.list("data") == {"data/a": len(first)}

    def test_a_local_file_arrives_to_the_byte(self) -> None:
        store = self.empty_store()
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch, "content")
            local.write_bytes(CONTENT)
            assert store.create("data/a.tar", local)
            assert local.read_bytes() == CONTENT
        assert store.read("data/a.tar") == CONTENT

    def test_a_large_file_is_created_once_and_never_overwritten(self) -> None:
        store = self.empty_store()
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch, "content")
            first, second = (bytes([value]) * self.large_bytes for value in (1, 2))
            local.write_bytes(first)
            assert store.create("data/a.tar", local)
            local.write_bytes(second)
            assert not store.create("data/a.tar", local)
        assert store.read("data/a.tar") == first
        assert store.list("data") == {"data/a.tar": len(first)}

    def test_what_is_replaced_is_the_new_file(self) -> None:
        store = self.empty_store()
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch, "content")
            for content in (b"first", CONTENT, b""):
                local.write_bytes(content)
                store.replace("data/a", content)
                store.replace("data/b", local)
                assert (store.read("data/a"), store.read("data/b")) == (content, content)
        assert store.list("data") == {"data/a": 0, "data/b": 0}

    def test_nobody_reads_half_of_a_file_that_is_replaced(self) -> None:
        versions = [bytes([value]) * (value * REPLACED_BYTES // 2) for value in (1, 2)]
        store = self.store_with({"data/a": versions[0]})
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(lambda: store.replace("data/a", versions[1]))
            while not writing.done():
                assert store.read("data/a") in versions
            writing.result()
        assert store.read("data/a") == versions[1]

    def test_a_path_that_leaves_the_store_is_not_created(self) -> None:
        store = self.empty_store()
        for path in OUTSIDE:
            refusal(lambda path=path: store.create(path, b"1"))  # type: ignore[misc]
            refusal(lambda path=path: store.replace(path, b"1"))  # type: ignore[misc]
        assert store.names() == ()

    def test_of_two_writers_of_a_name_exactly_one_succeeds(self) -> None:
        store = self.empty_store()
        for race in range(self.num_races):
            contents = [bytes([writer]) * 1000 for writer in range(2)]
            start = Barrier(len(contents))

            def create(content: bytes, name: str = f"data/{race}", start: Barrier = start) -> bool:
                start.wait()
                return store.create(name, content)

            with ThreadPoolExecutor(len(contents)) as pool:
                created = list(pool.map(create, contents))
            assert sorted(created) == [False, True]
            assert store.read(f"data/{race}") == contents[created.index(True)]

    def test_nobody_reads_half_of_a_file(self) -> None:
        store = self.empty_store()
        whole = bytes([7]) * self.large_bytes
        is_done = Event()

        def watch() -> set[bytes]:
            seen: set[bytes] = set()
            # A watcher that has read nothing when the file is created reads once more.
            while not (last := is_done.is_set()) or not seen:
                assert store.list("data") in ({}, {"data/a.tar": self.large_bytes})
                if not is_missing(lambda: seen.add(store.read("data/a.tar"))):
                    assert store.exists("data/a.tar")
                if last and not seen:
                    raise AssertionError("the file is created and cannot be read")
            return seen

        with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(2) as pool:
            local = Path(scratch, "content")
            local.write_bytes(whole)
            readers = [pool.submit(watch) for _ in range(2)]
            try:
                assert store.create("data/a.tar", local)
            finally:
                is_done.set()
            assert [reader.result() for reader in readers] == [{whole}] * 2

    def test_temporary_files_are_hidden_and_swept(self) -> None:
        store = self.store_with({"data/a": b"1"})
        if not store.lists_temporaries:
            return
        assert store.create("data/.tmp-b-00", b"half")
        assert store.list("data") == {"data/a": 1}
        store.sweep("data")
        assert not store.exists("data/.tmp-b-00")
        assert store.exists("data/a")

    def test_what_is_deleted_is_gone(self) -> None:
        store = self.store_with({"data/a": b"1", "data/b": b"2"})
        if not store.can_delete:
            return
        for _ in range(2):  # a file that is gone already is no error
            store.delete("data/a")
        assert store.list("data") == {"data/b": 1}
