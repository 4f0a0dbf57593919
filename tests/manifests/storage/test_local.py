import errno
import os
import socket
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from manifests.storage import Store, open_store
from manifests.storage.errors import StoreError
from manifests.storage.local import LocalStore
from manifests.storage.testing import StoreLaws, read_open
from tests.running import start
from tests.sets import make_set, refused, tree


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "set"))


class TestLaws(StoreLaws):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folders = (tmp_path / str(number) for number in count())

    def empty_store(self) -> Store:
        return open_store(str(next(self.folders)))


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[Path]:
    """A folder with one entry of each kind that must not be read."""
    folder = tmp_path / "strange"
    (folder / "folder").mkdir(parents=True)
    os.mkfifo(folder / "pipe")
    (folder / "link to a pipe").symlink_to(folder / "pipe")
    (folder / "link to a device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        old = Path.cwd()
        os.chdir(folder)  # the name of a socket must be short
        server.bind("socket")
        os.chdir(old)
        yield folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("folder", "folder"),
        ("pipe", "pipe"),
        ("link to a pipe", "pipe"),
        ("link to a device", "device"),
        ("socket", "socket"),
    ],
)
def test_only_ordinary_files_are_read(strange: Path, name: str, kind: str) -> None:
    store = open_store(str(strange))
    for read in (
        lambda: store.read(name),
        lambda: store.read_range(name, 0, 1),
        lambda: read_open(store, name),
    ):
        with refused(StoreError, f"{strange}/{name}: a {kind} stands where a file is needed"):
            read()
    assert store.list() == {}
    assert name in store.names()


@pytest.mark.parametrize("path", ["recipe.json", "data/000000.tar"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_verify_does_not_hang_at_a_pipe_or_a_device(tmp_path: Path, path: str, kind: str) -> None:
    make_set(tmp_path / "set")
    file = tmp_path / "set" / path
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    with start("verify", tmp_path / "set") as process:
        output, _ = process.communicate(timeout=60)  # a process that hangs fails the test here
    assert process.returncode == 1
    assert f"{file}: a {kind} stands where a file is needed" in output
    assert "Traceback" not in output


def test_an_error_of_the_code_that_reads_is_not_turned_into_a_store_error(store: Store) -> None:
    store.create("a", b"")
    for bug in (ZeroDivisionError, PermissionError):
        with pytest.raises(bug), store.open("a"):
            raise bug


def test_a_temporary_file_that_another_writer_sweeps_is_written_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other writer seals the same set while this one still creates a file."""
    link, sweeps = os.link, iter(["data"])

    def swept_link(source: Path, target: Path) -> None:
        for folder in sweeps:  # only at the first call, which exhausts the iterator
            store.sweep(folder)
        link(source, target)

    monkeypatch.setattr(os, "link", swept_link)
    assert store.create("data/a.tar", b"content")
    assert tree(store.url) == {"data/a.tar": b"content"}


def test_sweep_removes_temporary_files_of_one_folder(store: Store) -> None:
    for path in ("data/.tmp-a-00", "data/b", ".tmp-c-00"):
        store.create(path, b"")
    store.sweep("data")
    assert list(tree(store.url)) == [".tmp-c-00", "data/b"]


def test_files_are_readable_for_others_as_the_umask_says(store: Store) -> None:
    old = os.umask(0o022)
    try:
        store.create("a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE(Path(store.url, "a").stat().st_mode) == 0o644


@pytest.mark.parametrize("scheme", ["", "file://", "file:", "local://"])
def test_a_folder_has_several_spellings(tmp_path: Path, scheme: str) -> None:
    store = open_store(f"{scheme}{tmp_path}/")
    assert isinstance(store, LocalStore)
    assert store.at("data/a.tar") == f"{scheme}{tmp_path}/data/a.tar"
    assert store.create("a", b"")
    assert tree(tmp_path) == {"a": b""}
    assert store.local_path("a") == tmp_path / "a"


def test_a_path_may_be_relative_or_begin_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("set").local_path("a") == open_store("~/set").local_path("a")
    assert open_store("set").local_path("a") == tmp_path / "set/a"


def test_a_store_holds_what_lies_in_it_and_itself(tmp_path: Path) -> None:
    folder, link = tmp_path / "set", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    store = open_store(str(folder))
    for inside in (folder, f"file://{folder}/", link, folder / "copy", link / "a/b"):
        assert store.holds(open_store(str(inside)))
    for outside in (tmp_path, tmp_path / "set-2", "s3://set", f"memory://{folder}"):
        assert not store.holds(open_store(str(outside)))


def test_a_file_where_a_folder_is_needed_is_refused(store: Store) -> None:
    store.create("data", b"")
    advice = "a file stands where a folder is needed; choose another one"
    for call in (store.read, lambda path: store.create(path, b"")):
        with refused(StoreError, f"{store.url}/data/a.tar", advice):
            call("data/a.tar")
    with refused(StoreError, f"{store.url}/data", advice):
        store.list("data")


def test_a_name_that_is_too_long_is_refused(store: Store) -> None:
    with refused(StoreError, "choose a shorter folder"):
        store.create(f"{'a' * 300}/b", b"")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space and run the same command again"),
        (errno.EDQUOT, "raise the quota and run the same command again"),
        (errno.EACCES, "make the folder accessible to this user"),
        (errno.EPERM, "not writable or its file system has no hard links; choose another"),
        (errno.EROFS, "the file system is read-only; choose another folder"),
        (errno.EIO, "look at the disk and try again"),
    ],
)
@pytest.mark.parametrize("call", ["link", "fsync"])
def test_an_error_of_the_disk_is_one_line_and_leaves_nothing_half_written(
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


@pytest.mark.parametrize(
    "url", ["//KEY:SECRET@host/set", "file://KEY:SECRET@/set", "local://host/set?sig=SECRET"]
)
def test_a_path_with_the_secrets_of_a_url_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be the name of a folder, in which the secrets could no longer be recognised."""
    monkeypatch.chdir(tmp_path)
    with refused(StoreError, "neither a path nor a URL"):
        open_store(url)
    assert [*tmp_path.iterdir()] == []


def test_the_letters_of_a_scheme_may_be_large(tmp_path: Path) -> None:
    open_store(f"FILE://{tmp_path}").create("a", b"content")
    assert open_store(str(tmp_path)).read("a") == b"content"


def test_a_file_system_that_makes_no_folders_is_refused_in_one_line() -> None:
    with refused(StoreError, "/proc/set/a: no folder can be made there"):
        open_store("/proc/set").create("a", b"")


def test_the_root_of_the_file_system_has_a_name() -> None:
    assert open_store("/").url == "/"


def test_prune_removes_empty_folders_alone(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "set"))
    store.create("data/a", b"1")
    store.create("index/b", b"2")
    store.delete("index/b")
    store.prune(("", "data", "index", "stats"))
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["data"]
    store.delete("data/a")
    store.prune(("", "data"))
    assert list(tmp_path.iterdir()) == []
